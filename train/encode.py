"""Messages to token ids, with a role and a turn for every token.

Roles come from how the text was put together, never from looking for words in it. Each message's content is marked
before the chat template is rendered, with two code points that Unicode reserves for such use inside a program, so
the rendered text falls apart into segments whose origin is known: template, system, instruction, response. It is then
tokenised in the pieces in which a model meets it when it is used: a prompt as a whole, a response by itself, behind it.
So a token never holds the end of a prompt and the start of a response, and ``Encoder.prompt`` gives exactly the ids
that stood before the response in training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from curate.contract.columns import CONTENT, ROLE
from curate.contract.errors import TrainingError
from curate.contract.paths import library
from curate.contract.progress import track

TEMPLATE, SYSTEM, INSTRUCTION, RESPONSE, END_OF_TURN = (np.uint8(i) for i in range(5))
_ROLE_OF = {"system": SYSTEM, "user": INSTRUCTION, "assistant": RESPONSE}

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: never part of text that is exchanged
_MARKED = re.compile(f"{_OPEN}([0-9]+){_OPEN}(.*?){_CLOSE}", re.DOTALL)

_BATCH = 1000  # rows that are tokenised together


@dataclass(frozen=True)
class Encoded:
    """One document of T tokens."""

    id: str
    input_ids: np.ndarray  # int32 (T,)
    role: np.ndarray  # uint8 (T,): TEMPLATE … END_OF_TURN; END_OF_TURN closes an assistant's turn, once
    turn: np.ndarray  # int32 (T,): the index of the message that the token belongs to
    response_bytes: int  # UTF-8 bytes of the text that the RESPONSE tokens stand for
    truncated: bool = False


@dataclass(frozen=True)
class _Segment:
    text: str
    role: np.uint8
    turn: int


class Encoder:
    """Encodes conversations for one tokenizer and one chat format.

    chat: a name in templates/chat ("plain", "chatml"), the path of a .jinja file, or None: the tokenizer's own format,
    "plain" where it has none. max_length in tokens; over_length says what becomes of a longer document:
    "terminate" cuts it and closes a response that was cut with the end-of-turn token, "keep" only cuts, "drop" leaves it out.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat: str | None = None,
        *,
        max_length: int = 1024,
        over_length: Literal["terminate", "keep", "drop"] = "terminate",
    ):
        if not tokenizer.is_fast:
            raise TrainingError(
                f"{type(tokenizer).__name__} keeps no track of characters; use a tokenizer with a tokenizer.json"
            )
        self.tokenizer = tokenizer
        self.backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        self.backend.no_truncation()
        self.backend.no_padding()
        self.template = _template(tokenizer, chat)
        self.max_length, self.over_length = max_length, over_length
        self.special = {token for token, added in self.backend.get_added_tokens_decoder().items() if added.special}
        words = sorted((str(tokenizer.convert_ids_to_tokens(i)) for i in self.special), key=len, reverse=True)
        self.special_words = re.compile("|".join(map(re.escape, words)) or r"(?!)")
        self.end_id = self._end_id(chat)

    def encode(self, messages: Sequence[dict[str, Any]], id: str = "") -> Encoded:
        """One conversation. A document over max_length is cut, or refused where over_length is "drop"."""
        whole = self._documents([(id, messages)])[0]
        fitted = self._fit(whole)
        if fitted is None:
            raise TrainingError(
                f"row {id!r} has {len(whole.input_ids):,} tokens, more than max_length {self.max_length:,}"
            )
        return fitted

    def encode_all(self, rows: Iterable[tuple[str, Sequence[dict[str, Any]]]]) -> tuple[list[Encoded], dict[str, int]]:
        """(id, messages) each -> the documents that can be trained on, in order, and counts of what happened.

        Counts: documents (kept), tokens, truncated, dropped (over_length "drop"), without_response (nothing of a response
        within max_length).
        """
        counts = {"documents": 0, "tokens": 0, "truncated": 0, "dropped": 0, "without_response": 0}
        kept, rows = [], list(rows)
        batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        for whole in (document for batch in track(batches, "encode") for document in self._documents(batch)):
            document = self._fit(whole)
            if document is None:
                counts["dropped"] += 1
            elif not (document.role == RESPONSE).any():
                counts["without_response"] += 1
            else:
                kept.append(document)
                counts["truncated"] += document.truncated
                counts["tokens"] += len(document.input_ids)
        counts["documents"] = len(kept)
        return kept, counts

    def prompt(self, messages: Sequence[dict[str, Any]]) -> np.ndarray:
        """The ids before the answer to ``messages``, generation prompt included: int32 (T,)."""
        _check("", messages)
        pieces = _pieces(self._segments([("", messages)], generation=True)[0])
        return np.concatenate([self._tokens(piece, self._encode_batch([_text(piece)])[0])[0] for piece in pieces])

    def _documents(self, rows: list[tuple[str, Sequence[dict[str, Any]]]]) -> list[Encoded]:
        for id, messages in rows:
            _check(id, messages)
        pieces = [_pieces(segments) for segments in self._segments(rows)]
        encodings = iter(self._encode_batch([_text(piece) for of_row in pieces for piece in of_row]))
        return [
            self._document(id, [(piece, next(encodings)) for piece in of_row])
            for (id, _), of_row in zip(rows, pieces, strict=True)
        ]

    def _document(self, id: str, pieces: list[tuple[list[_Segment], Encoding]]) -> Encoded:
        parts, size, response = [], 0, None
        for piece, encoding in pieces:
            tokens = self._tokens(piece, encoding)
            if response is not None:
                self._close_turn(id, response.turn, *tokens)
            response = piece[0] if piece[0].role == RESPONSE else None
            size += len(response.text.encode()) if response else 0
            parts.append(tokens)
        if response is not None:
            raise TrainingError(f"row {id!r}: the chat format puts nothing behind an assistant's turn")
        ids, role, turn = (np.concatenate(column) for column in zip(*parts, strict=True))
        end = (
            int(np.flatnonzero(role != TEMPLATE)[-1]) + 1 if (role != TEMPLATE).any() else 0
        )  # nothing learns behind it
        return Encoded(id, ids[:end], role[:end], turn[:end], size)

    def _tokens(self, piece: list[_Segment], encoding: Encoding) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ids int32, role uint8, turn int32 of a piece. A token that spans template and content counts as template."""
        contents = [segment.text for segment in piece if segment.role != TEMPLATE]
        if any(self.special_words.search(text) for text in contents):
            return self._tokens_apart(piece)
        ids = np.asarray(encoding.ids, np.int32)
        roles = np.array([segment.role for segment in piece], np.uint8)
        turns = np.array([segment.turn for segment in piece], np.int32)
        if len(piece) == 1:
            return ids, np.repeat(roles, len(ids)), np.repeat(turns, len(ids))
        ends = np.cumsum([len(segment.text) for segment in piece])
        spans = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
        first = np.minimum(np.searchsorted(ends, spans[:, 0], side="right"), len(piece) - 1)
        last = np.minimum(np.searchsorted(ends, np.maximum(spans[:, 1] - 1, spans[:, 0]), side="right"), len(piece) - 1)
        return ids, np.where(first == last, roles[first], TEMPLATE).astype(np.uint8), turns[first]

    def _tokens_apart(self, piece: list[_Segment]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same for a text that spells out a special token: what a row says stays text and closes no turn."""
        ids = []
        for segment in piece:
            self.backend.encode_special_tokens = segment.role != TEMPLATE
            ids.append(self.backend.encode(segment.text, add_special_tokens=False).ids)
        self.backend.encode_special_tokens = False
        lengths = [len(part) for part in ids]
        return (
            np.concatenate([np.asarray(part, np.int32) for part in ids]),
            np.repeat([segment.role for segment in piece], lengths).astype(np.uint8),
            np.repeat([segment.turn for segment in piece], lengths).astype(np.int32),
        )

    def _close_turn(self, id: str, of: int, ids: np.ndarray, role: np.ndarray, turn: np.ndarray) -> None:
        """Marks the first special token behind the response of turn ``of`` as its end."""
        for at in np.flatnonzero(role == TEMPLATE):
            if int(ids[at]) in self.special:
                role[at], turn[at] = END_OF_TURN, of
                return
        raise TrainingError(f"row {id!r}: the chat format puts no special token behind an assistant's turn")

    def _fit(self, document: Encoded) -> Encoded | None:
        if len(document.input_ids) <= self.max_length:
            return document
        if self.over_length == "drop":
            return None
        ids, role, turn = (
            column[: self.max_length].copy() for column in (document.input_ids, document.role, document.turn)
        )
        if self.over_length == "terminate" and role[-1] == RESPONSE:
            ids[-1], role[-1] = self.end_id, END_OF_TURN
        size = len(self._response_text(document.input_ids, document.role, int((role == RESPONSE).sum())).encode())
        return replace(document, input_ids=ids, role=role, turn=turn, response_bytes=size, truncated=True)

    def _response_text(self, ids: np.ndarray, role: np.ndarray, n: int) -> str:
        """The text of the first n RESPONSE tokens."""
        return self.tokenizer.decode(ids[role == RESPONSE][:n], clean_up_tokenization_spaces=False)  # type: ignore[return-value]

    def _end_id(self, chat: str | None) -> int:
        """The token that ends an assistant's turn, found by encoding a conversation of two turns."""
        messages = [{ROLE: role, CONTENT: text} for role, text in (("user", "a"), ("assistant", "b")) * 2]
        try:
            document = self._documents([("", messages)])[0]
        except TrainingError as error:
            shown = f"chat format {chat!r}" if chat else "chat format of this tokenizer"
            raise TrainingError(
                f"the {shown} cannot be used with {type(self.tokenizer).__name__}: {error}; "
                "name another with chat: (plain needs only an end-of-text token)"
            ) from error
        return int(document.input_ids[document.role == END_OF_TURN][-1])

    def _encode_batch(self, texts: list[str]) -> list[Encoding]:
        return self.backend.encode_batch(texts, add_special_tokens=False)

    def _segments(
        self, rows: list[tuple[str, Sequence[dict[str, Any]]]], generation: bool = False
    ) -> list[list[_Segment]]:
        """The rendered conversations as segments, one list a row."""
        plain = self._render([list(messages) for _, messages in rows], generation)
        marked = self._render([_mark(messages) for _, messages in rows], generation)
        out = []
        for (id, messages), text, text_marked in zip(rows, plain, marked, strict=True):
            segments = _split(text_marked, messages, id)
            if "".join(segment.text for segment in segments) != text:  # the format trims what it is given
                trimmed = [{**message, CONTENT: message[CONTENT].strip()} for message in messages]
                segments = _split(self._render([_mark(trimmed)], generation)[0], trimmed, id)
                if "".join(segment.text for segment in segments) != text:
                    raise TrainingError(
                        f"row {id!r}: the chat format rewrites what a message says; name another with chat:"
                    )
            out.append(segments)
        return out

    def _render(self, conversations: list[list[dict[str, Any]]], generation: bool) -> list[str]:
        """Through transformers' sandboxed environment."""
        if not conversations:
            return []
        return self.tokenizer.apply_chat_template(
            conversations, chat_template=self.template, tokenize=False, add_generation_prompt=generation
        )  # type: ignore[return-value]


def _template(tokenizer: PreTrainedTokenizerBase, chat: str | None) -> str:
    if chat is None:
        own = tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        if own:
            return own
        chat = "plain"
    path = Path(chat) if chat.endswith(".jinja") else library("templates") / "chat" / f"{chat}.jinja"
    if not path.is_file():
        names = sorted(p.stem for p in (library("templates") / "chat").glob("*.jinja"))
        raise TrainingError(f"chat format {chat!r} is neither a .jinja file nor one of ours: {', '.join(names)}")
    return path.read_text("utf-8")


def _mark(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, CONTENT: f"{_OPEN}{turn}{_OPEN}{message[CONTENT]}{_CLOSE}"} for turn, message in enumerate(messages)
    ]


def _split(text: str, messages: Sequence[dict[str, Any]], id: str) -> list[_Segment]:
    """The rendered, marked text as segments; every message must be in it once, whole, in order."""
    segments, at, turns = [], 0, []
    for mark in _MARKED.finditer(text):
        turn = int(mark[1])
        turns.append(turn)
        if mark.start() > at:
            segments.append(_Segment(text[at : mark.start()], TEMPLATE, turn))
        if mark[2]:
            segments.append(_Segment(mark[2], _ROLE_OF[messages[turn][ROLE]], turn))
        at = mark.end()
    if turns != list(range(len(messages))):
        raise TrainingError(f"row {id!r}: the chat format leaves out, repeats or reorders its {len(messages)} messages")
    if at < len(text):
        segments.append(_Segment(text[at:], TEMPLATE, len(messages) - 1))
    return segments


def _check(id: str, messages: Sequence[dict[str, Any]]) -> None:
    if not messages:
        raise TrainingError(f"row {id!r} has no messages")
    for message in messages:
        if message[ROLE] not in _ROLE_OF:
            raise TrainingError(
                f"row {id!r} has a message of role {message[ROLE]!r}; allowed are {', '.join(_ROLE_OF)}"
            )
        if not isinstance(message[CONTENT], str):
            raise TrainingError(
                f"row {id!r} has a message of {type(message[CONTENT]).__name__} content; only text is trained on"
            )


def _pieces(segments: list[_Segment]) -> list[list[_Segment]]:
    """What is tokenised in one go: each response by itself, all between two responses together."""
    pieces: list[list[_Segment]] = [[]]
    for segment in segments:
        if segment.role == RESPONSE or (pieces[-1] and pieces[-1][-1].role == RESPONSE):
            pieces.append([])
        pieces[-1].append(segment)
    return [piece for piece in pieces if piece]


def _text(piece: list[_Segment]) -> str:
    return "".join(segment.text for segment in piece)
