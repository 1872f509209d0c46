"""Which images of a bag are meant, and which camera took them: where there are several, `capture.yaml` beside the bag decides."""

from aprloc_ros.recordings.bag_images import ImageTopics, choose_topics
from aprloc_ros.recordings.recording import Recording
from aprloc_ros.training.datasets.choice import Choice


def chosen_topics(recording: Recording, choice: Choice) -> ImageTopics:
    """Raises AprlocError where the file has to choose, or names what is not there."""
    return choose_topics(recording, choice.image_topic, choice.camera_info_topic,
                         (key_in_file('image_topic'), key_in_file('camera_info_topic')), choice.rectified)


def key_in_file(key: str) -> str:
    """How to make a choice, in words that follow `choose one with`."""
    return f'"{key}: <one of them>" in capture.yaml beside the bag'
