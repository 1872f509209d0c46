"""The figures of the README and of docs/figures/, each printed by one command."""
