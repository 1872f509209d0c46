"""The map that a node has in memory, and whether it is still the one on disk."""

from aprloc_ros.map_bundle import MapBundle


class LoadedMap:
    """Remembers what the map's manifest was when it was loaded."""

    def __init__(self, bundle: MapBundle):
        self.bundle, self._sha256 = bundle, bundle.sha256

    @property
    def change(self) -> str:
        """In one line: it was aligned, taught or built anew, or taken away, since it was loaded; empty if not."""
        try:
            if self.bundle.sha256 == self._sha256:
                return ''
        except OSError:
            pass
        return (f'the map {self.bundle.manifest.name} was changed on disk since it was loaded, its frame perhaps: deactivate and activate '
                'the node to take it')
