"""What a policy may be told: words with ids, or whole instructions. What it does not know is reported, not guessed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD = 0


class UnknownInstruction(ValueError):
    """The instruction holds words the policy never saw, is empty or is too long."""


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of their ids; id 0 is padding.

    Attributes:
        words: known words; word i has id i + 1.
        length: longest instruction [words].
    """

    words: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, instructions: list[str]) -> "Vocabulary":
        """The vocabulary that covers ``instructions``."""
        split = [text.lower().split() for text in instructions]
        return cls(tuple(sorted({word for words in split for word in words})), max(map(len, split)))

    def check(self, instruction: str) -> None:
        """Raise UnknownInstruction naming unknown and known words."""
        self.encode(instruction)

    def encode(self, instruction: str) -> NDArray[np.int64]:
        """Ids (length,), padded. Raises UnknownInstruction naming unknown and known words."""
        words = instruction.lower().split()
        unknown = sorted(set(words) - set(self.words))
        if unknown or not words or len(words) > self.length:
            what = f"unknown words {unknown}" if unknown else f"{len(words)} words, expected 1 to {self.length}"
            raise UnknownInstruction(
                f"instruction: {instruction!r} is not valid; {what}; known: {' '.join(self.words)}"
            )
        ids = np.full(self.length, PAD, np.int64)
        ids[: len(words)] = [self.words.index(word) + 1 for word in words]
        return ids


LONGEST = 200  # characters of an instruction in free text


@dataclass(frozen=True)
class Instructions:
    """Instructions of a foreign policy. ``texts``: the only ones; empty: any text."""

    texts: tuple[str, ...]

    def check(self, instruction: str) -> None:
        """Raise UnknownInstruction for another one, for none, and for one that is too long."""
        if self.texts and instruction not in self.texts:
            raise UnknownInstruction(f"instruction: {instruction!r} is not valid; known: {'; '.join(self.texts)}")
        if not 0 < len(instruction) <= LONGEST:
            text = f"{len(instruction)} characters are not valid; expected 1 to {LONGEST}"
            raise UnknownInstruction(f"instruction: {text}")
