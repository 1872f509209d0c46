"""How well a map knows one drive: a few numbers that its manifest keeps."""

from collections.abc import Sequence

from aprloc_ros.scoring.evaluation import RECALL_BOUNDS, FrameRecord, score_records

_RIGHT, _NEAR = '25cm2deg', '50cm5deg'


def drive_accuracy(records: Sequence[FrameRecord]) -> dict[str, float]:
    """Shares of all frames that were answered, right and wrong, and the median errors; empty for no frames."""
    if not records:
        return {}
    answered = [record for record in records if record.status != 'rejected']
    scores = score_records(records)
    right, near = (sum(record.error_m <= m and record.error_deg <= deg for record in answered)
                    for m, deg in (RECALL_BOUNDS[_RIGHT], RECALL_BOUNDS[_NEAR]))
    return {'frames': float(len(records)), 'answered': len(answered) / len(records), 'right': right / len(records),
            'wrong': (len(answered) - near) / len(records), 'median_m': scores.median_m, 'median_deg': scores.median_deg}


def describe_drive(accuracy: dict[str, float]) -> str:
    """drive_accuracy in a line."""
    if not accuracy:
        return 'no frames were held out of it'
    return (f'{accuracy["frames"]:.0f} held-out frames, {accuracy["answered"]:.0%} answered, {accuracy["right"]:.0%} right within '
            f'25 cm and 2 degrees, {accuracy["wrong"]:.1%} wrong; median {accuracy["median_m"]:.3f} m, '
            f'{accuracy["median_deg"]:.2f} degrees')
