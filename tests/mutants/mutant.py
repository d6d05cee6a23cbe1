"""A mutant: one small deliberate fault, and the tests that should see it."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A fault as one replacement in one file.

    Attributes:
      name: its name on the command line.
      fault: what is wrong with it, in a line.
      file: the file, relative to the repository.
      old: the text that is replaced; it occurs once in the file.
      new: what stands in its place.
      tests: paths of the default set's tests, or `path::function`.
    """

    name: str
    fault: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutate(self, text: str) -> str:
        """The file's text with the fault.

        Raises:
          ValueError: the text to replace does not occur exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"mutant {self.name!r}: its old text must occur once in {self.file}, not {count} "
                "times; write the mutant for the code of today"
            )
        return text.replace(self.old, self.new)

    def apply(self, root: pathlib.Path) -> None:
        """Puts the fault into the tree at `root`."""
        path = root / self.file
        path.write_text(self.mutate(path.read_text()))
