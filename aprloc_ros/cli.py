"""`aprloc`: a parser and plain functions. Known errors print one line and exit with 1."""

import argparse
import logging
import sys
from collections.abc import Sequence

from aprloc_ros import __version__
from aprloc_ros.command_line import making_options, using_options
from aprloc_ros.errors import AprlocError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code: 0 good, 1 a known error or poses that were not good, 130 interrupted."""
    if hasattr(sys.stdout, 'reconfigure'):   # names of files may be bytes that are no letters, or none of this terminal's
        sys.stdout.reconfigure(errors='backslashreplace')
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    try:
        return options.run(options)
    except AprlocError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        print('aprloc: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:   # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 1
    except OSError as error:
        return _complain(f'{error.filename}: {error.strerror}' if error.filename else str(error))
    except ModuleNotFoundError as error:
        if (error.name or 'aprloc_ros').startswith('aprloc_ros'):
            raise
        return _complain(f'the module {error.name} is missing; install aprloc_ros with its extras eval, train and ros, '
                         'or source your ROS distribution')


def _complain(text: str) -> int:
    print(f'aprloc: error: {text}', file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='aprloc', description='Where is the camera? Build maps from posed images and '
                                                                'localise single images in them.')
    parser.add_argument('--version', action='version', version=f'aprloc {__version__}')
    subparsers = parser.add_subparsers(metavar='COMMAND', required=True)
    using_options.add_demo(subparsers)
    making_options.add_pose(subparsers)
    making_options.add_build(subparsers)
    making_options.add_extend(subparsers)
    making_options.add_calibrate(subparsers)
    making_options.add_adapt(subparsers)
    making_options.add_align(subparsers)
    making_options.add_atlas(subparsers)
    using_options.add_localize(subparsers)
    using_options.add_evaluate(subparsers)
    making_options.add_bag(subparsers)
    using_options.add_play(subparsers)
    using_options.add_replay(subparsers)
    using_options.add_view(subparsers)
    making_options.add_masks(subparsers)
    using_options.add_maps(subparsers)
    making_options.add_benchmark(subparsers)
    making_options.add_place(subparsers)
    return parser


if __name__ == '__main__':
    sys.exit(main())
