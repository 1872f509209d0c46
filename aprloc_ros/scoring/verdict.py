"""Whether poses were good, for people and for an exit code."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether poses were good: each check in words, and whether it held."""

    checks: dict[str, bool]
    remark: str = ''   # what else its reader must know, good or not
    failed: str = 'the poses were NOT good'

    @property
    def good(self) -> bool:
        return all(self.checks.values())

    def text(self) -> str:
        """A line for each check, then the whole."""
        lines = [f'{"ok    " if held else "FAILED"} {check}' for check, held in self.checks.items()]
        return '\n'.join([*lines, self.sentence()])

    def sentence(self) -> str:
        """The whole in a line."""
        words, joint = ('the poses were good', ', but ') if self.good else (self.failed, '; ')
        return words + (joint + self.remark if self.remark else '')
