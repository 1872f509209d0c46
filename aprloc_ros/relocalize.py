"""The executable `relocalize`: quiet from its first line on, so that Ctrl-C and a missing ROS leave no traceback."""

import os
import signal
import sys


def main() -> int:
    """Runs the node until SIGINT or SIGTERM -> exit code."""
    for interrupt in (signal.SIGINT, signal.SIGTERM):  # while the libraries load; the node sets its own
        signal.signal(interrupt, lambda *_: os._exit(0))
    try:
        from aprloc_ros.ros import executable
    except ModuleNotFoundError as error:
        if (error.name or '').startswith('aprloc_ros'):
            raise
        print(f'aprloc: error: the module {error.name} is missing; source your ROS distribution, or install '
              f'aprloc_ros[ros] from this repository', file=sys.stderr)
        return 1
    return executable.main()


if __name__ == '__main__':
    sys.exit(main())
