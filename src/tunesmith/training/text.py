"""From examples to token rows with a mask of what is trained."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.examples import Conversation, PromptCompletion, Text, Tokens
from tunesmith.data.labels import UNTRAINED
from tunesmith.spec.errors import DatasetError, ModelLoadError
from tunesmith.spec.receipt import Finding, Piece
from tunesmith.training.chat import ChatRenderer, Rendered


class Sequences(ABC):
    """What token sequences tell about the row that they are."""

    __slots__ = ()

    @property
    @abstractmethod
    def sequences(self) -> "tuple[TokenRow, ...]":
        """The row's token sequences: one, or two that belong together."""

    @property
    def length(self) -> int:
        """Tokens of the longest."""
        return max(len(sequence.ids) for sequence in self.sequences)

    @property
    def tokens(self) -> int:
        """Tokens of all."""
        return sum(len(sequence.ids) for sequence in self.sequences)

    @property
    def trained_count(self) -> int:
        """Tokens that carry loss."""
        return sum(int(sequence.trained.sum()) for sequence in self.sequences)

    @property
    def trainable(self) -> bool:
        """Whether tokens of each carry loss."""
        return all(sequence.trained.any() for sequence in self.sequences)


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow(Sequences):
    """One example as the model sees it. Shape T = number of its tokens."""

    line: int
    ids: NDArray[np.int32]
    """[T]"""

    trained: NDArray[np.bool_]
    """[T]; whether predicting this token carries loss. Never true for the first, which nothing predicts."""

    @property
    def sequences(self) -> "tuple[TokenRow, ...]":
        """Itself."""
        return (self,)

    def truncated(self, length: int) -> "TokenRow":
        """The row's beginning."""
        return TokenRow(self.line, self.ids[:length], self.trained[:length])

    def beginning(self, length: int) -> "TokenRow":
        """So many tokens from its beginning, or somewhat more where they belong together."""
        return self.truncated(length)


_Written = Conversation | PromptCompletion | Text


class Encoder:
    """Turns examples into token rows with one model's tokenizer, chat template and number of known tokens.

    `stops` are the tokens that make the model's answer end; none = the tokenizer's end-of-text token.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, stops: Collection[int] | None = None) -> None:
        if not tokenizer.is_fast:
            raise ModelLoadError(
                "The model's tokenizer has no tokenizer.json, so it is unknown which characters a token covers.",
                hint="Save it once with a fast tokenizer.",
            )
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self.stops = frozenset({tokenizer.eos_token_id} - {None}) if stops is None else frozenset(stops)
        self._renderer: ChatRenderer | None = None
        probe = tokenizer("a")["input_ids"]
        self._adds_bos = len(probe) > 1 and probe[0] == tokenizer.bos_token_id
        self._adds_eos = len(probe) > 1 and probe[-1] == tokenizer.eos_token_id
        self.found: list[tuple[int, Finding]] = []
        """What the chat template did, each time with the row's line."""

    @property
    def findings(self) -> Counter[Finding]:
        """What the chat template did, and how often."""
        return Counter(finding for _, finding in self.found)

    def encode(self, examples: Sequence[_Written | Tokens]) -> list[TokenRow]:
        """Token rows of any length, in order.

        Raises:
            DatasetError: a row has tokens that the model lacks.
            ChatTemplateError: the chat template refuses a row or hides what the assistant wrote.
        """
        rows = []
        for _, run in groupby(examples, key=type):
            alike = list(run)
            given = [self._as_given(example) for example in alike if isinstance(example, Tokens)]
            rows += given or self._tokenised([example for example in alike if not isinstance(example, Tokens)])
        return rows

    def as_is(self, line: int, text: str) -> TokenRow:
        """A text as the tokenizer gives it to anybody, of which nothing carries loss."""
        ids = np.array(self._tokenizer(text, verbose=False)["input_ids"], dtype=np.int32)
        return TokenRow(line, ids, np.zeros(len(ids), dtype=np.bool_))

    def _tokenised(self, examples: Sequence[_Written]) -> list[TokenRow]:
        """Token rows of examples of one kind."""
        texts, spans = [], []
        for example in examples:
            text, trained = self._render(example)
            texts.append(text)
            spans.append(trained)
        special = not isinstance(examples[0], Conversation)
        encodings = self._tokenizer(texts, add_special_tokens=special, verbose=False).encodings
        return [
            _row(example.line, encoding, trained)
            for example, encoding, trained in zip(examples, encodings, spans, strict=True)
        ]

    def _as_given(self, example: Tokens) -> TokenRow:
        ids, labels = np.array(example.ids), np.array(example.labels)
        if example.attention_mask is not None:
            real = np.array(example.attention_mask, dtype=np.bool_)
            ids, labels = ids[real], labels[real]
        unknown = ids[ids >= self._vocabulary]
        if unknown.size:
            raise DatasetError(
                f"Line {example.line}: the model has no token {unknown[0]}; its tokens go from 0 to "
                f"{self._vocabulary - 1}.",
                hint="Tokenise the rows with this model's tokenizer.",
            )
        trained = labels != UNTRAINED
        other = np.flatnonzero(trained & (labels != ids))
        if other.size:
            raise DatasetError(
                f"Line {example.line}: the label {labels[other[0]]} stands where the token is {ids[other[0]]}.",
                hint=f"A label is the token of its own position, or {UNTRAINED}; shifting is left to the training.",
            )
        trained[:1] = False
        return TokenRow(example.line, ids.astype(np.int32), trained)

    def render(self, conversation: Conversation) -> Rendered:
        """A conversation as text, before it is tokenised, with its trained spans.

        Raises:
            ChatTemplateError: as for `encode`.
        """
        if self._renderer is None:
            self._renderer = ChatRenderer(self._tokenizer, self.stops)
        rendered = self._renderer.render(conversation)
        self.found += ((conversation.line, finding) for finding in sorted(rendered.findings))
        return rendered

    def tokenised(self, line: int, rendered: Rendered) -> TokenRow:
        """The tokens of a rendered conversation."""
        [encoding] = self._tokenizer([rendered.text], add_special_tokens=False, verbose=False).encodings
        return _row(line, encoding, rendered.spans)

    def pieces(self, row: TokenRow) -> list[Piece]:
        """A row's text, split where trained tokens begin and end."""
        borders = [0, *(np.flatnonzero(np.diff(row.trained)) + 1).tolist(), len(row.ids)]
        return [
            Piece(text=self.decode(row.ids[start:end]), trained=bool(row.trained[start]))
            for start, end in pairwise(borders)
        ]

    def show(self, row: TokenRow, limit: int) -> str:
        """A row's text with trained spans between `⟦` and `⟧`, cut to `limit` characters."""
        return "".join(f"⟦{piece.text}⟧" if piece.trained else piece.text for piece in self.pieces(row))[:limit]

    def decode(self, ids: NDArray[np.int32]) -> str:
        """Text of tokens, special ones included."""
        text: str = self._tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False)
        return text

    def _render(self, example: _Written) -> tuple[str, tuple[tuple[int, int], ...]]:
        match example:
            case Conversation():
                rendered = self.render(example)
                return rendered.text, rendered.spans
            case PromptCompletion(prompt=prompt, completion=completion):
                prompt, completion = self._without_bos(prompt), self._with_eos(completion)
                return prompt + completion, ((len(prompt), len(prompt) + len(completion)),)
            case Text(text=text):
                text = self._with_eos(self._without_bos(text))
                return text, ((0, len(text)),)

    def _without_bos(self, text: str) -> str:
        return text.removeprefix(self._tokenizer.bos_token) if self._adds_bos else text

    def _with_eos(self, text: str) -> str:
        eos = self._tokenizer.eos_token
        if eos is None:
            return text
        return text.removesuffix(eos) if self._adds_eos else text.removesuffix(eos) + eos


def _row(line: int, encoding: Any, spans: Sequence[tuple[int, int]]) -> TokenRow:
    ids = np.array(encoding.ids, dtype=np.int32)
    trained = np.zeros(len(ids), dtype=np.bool_)
    for start, end in spans:
        first = _token_at(encoding, range(start, end))
        last = _token_at(encoding, range(end - 1, start - 1, -1))
        if first is not None and last is not None:
            trained[first : last + 1] = True
    if spans and encoding.special_tokens_mask and encoding.special_tokens_mask[-1] and spans[-1][1] == _end(encoding):
        trained[-1] = True
    trained[:1] = False
    return TokenRow(line, ids, trained)


def _token_at(encoding: Any, positions: range) -> int | None:
    """The token of the first position that has one: white space may belong to none."""
    for position in positions:
        token: int | None = encoding.char_to_token(position)
        if token is not None:
            return token
    return None


def _end(encoding: Any) -> int:
    return max((end for _, end in encoding.offsets), default=0)
