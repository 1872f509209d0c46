"""The only decoders of images there are: of messages and of files, for build, replay, node and command line."""
