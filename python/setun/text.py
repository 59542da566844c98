"""Text of a language model: its tokenizer, stop tokens, chat template, and text that comes token by token.

Everything is read from the checkpoint's own files, which travel in the package: tokenizer.json,
tokenizer_config.json, generation_config.json, config.json and the chat template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from setun.diagnostics import SetunError

END_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "</s>")
"""Tokens that close a turn in the chat templates known; one that a template mentions stops the generation."""


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool)]


class Text:
    """Tokenizer and conventions of one model.

    Args:
        files: contents by file name, as in the package.

    Raises:
        SetunError: there is no tokenizer.json, or a file is damaged.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        from tokenizers import Tokenizer

        if "tokenizer.json" not in files:
            raise SetunError(
                "the package has no tokenizer.json, so it cannot read or write text",
                "Use --prompt-ids and --ids, or compile a checkpoint directory that has its tokenizer.",
            )
        try:
            self.tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
        except Exception as error:  # the package raises Exception itself
            raise SetunError(f"tokenizer.json cannot be read ({error})") from error
        self.config = self._json(files, "config.json")
        self.generation = self._json(files, "generation_config.json")
        self.settings = self._json(files, "tokenizer_config.json")
        self.special = self._json(files, "special_tokens_map.json")
        self.template = self._template(files)
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values(), default=-1) + 1

    @staticmethod
    def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
        try:
            value = json.loads(files[name].decode("utf-8-sig")) if name in files else {}
        except ValueError as error:
            raise SetunError(f"{name} is not valid JSON ({error})") from error
        return value if isinstance(value, dict) else {}

    def _template(self, files: Mapping[str, bytes]) -> str | None:
        if "chat_template.jinja" in files:
            try:
                return files["chat_template.jinja"].decode("utf-8")
            except UnicodeDecodeError as error:
                raise SetunError(f"chat_template.jinja is not valid UTF-8 ({error})") from error
        template = self._json(files, "chat_template.json").get("chat_template", self.settings.get("chat_template"))
        if isinstance(template, list):  # several by name
            named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
            template = named.get("default", next(iter(named.values()), None))
        return template if isinstance(template, str) else None

    def _token(self, key: str) -> str | None:
        """A special token's text: `bos_token`, `eos_token`, ..."""
        for source in (self.settings, self.special):
            value = source.get(key)
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                return value
        return None

    @property
    def bos(self) -> int | None:
        """Id of the token that begins a text, if the model has one."""
        token = self._token("bos_token")
        if token is not None and (number := self.tokenizer.token_to_id(token)) is not None:
            return number
        for source in (self.generation, self.config):
            if numbers := _ids(source.get("bos_token_id")):
                return numbers[0]
        return None

    def stops(self) -> set[int]:
        """Ids that end a text: of both configurations, of the tokenizer, and what closes a turn in the template.

        config.json's alone would let chats run on: its `eos_token_id` is often the end of text, not of a turn.
        """
        stops = set(_ids(self.config.get("eos_token_id"))) | set(_ids(self.generation.get("eos_token_id")))
        tokens = [self._token("eos_token")]
        tokens += [token for token in END_OF_TURN if self.template is not None and token in self.template]
        for token in tokens:
            number = self.tokenizer.token_to_id(token) if token is not None else None
            if number is not None:
                stops.add(number)
        return stops

    def encode(self, text: str) -> list[int]:
        """Ids of a text. BOS comes first if the tokenizer's post-processor or `add_bos_token` says so, once."""
        ids = list(self.tokenizer.encode(text, add_special_tokens=True).ids)
        bos = self.bos
        if bos is None:
            return ids
        if self.settings.get("add_bos_token") is True and ids[:1] != [bos]:
            ids.insert(0, bos)
        while ids[:2] == [bos, bos]:
            del ids[0]
        return ids

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The model's prompt for a conversation (`role`, `content`), up to where its answer begins.

        Raises:
            SetunError: the model has no chat template, or it refuses the conversation.
        """
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        if self.template is None:
            raise SetunError("the model has no chat template", "Leave --chat out and write the prompt as plain text.")

        def refuse(message: str) -> None:
            raise TemplateError(message)

        # Settings and names as transformers gives to templates; the sandbox keeps them from doing anything else.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = refuse
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        tokens = {key: self._token(key) or "" for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
        try:
            return environment.from_string(self.template).render(
                messages=[dict(message) for message in messages], add_generation_prompt=True, **tokens
            )
        except Exception as error:  # a template is a program, and may raise whatever it likes
            raise SetunError(f"the model's chat template refuses this conversation ({error})") from error

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


class TextStream:
    """Text of tokens as they come, never half a character.

    A token can hold part of a character, and some decoders treat the first token apart. So each piece is what a text
    gains by the new tokens, seen after a few tokens of context; it is held back while it ends in the replacement sign
    that an incomplete character decodes to.

    Args:
        decode: ids to text.
        context: ids that come before and whose text is known.
    """

    LONGEST_CHARACTER = 8  # tokens to wait for the rest of a character, after which the bytes are invalid

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        self.decode = decode
        self.ids = list(context[-self.LONGEST_CHARACTER :])
        self.begin = 0  # of the context
        self.read = len(self.ids)  # first id whose text was not given yet

    def push(self, token: int) -> str:
        """Text that the next token completes; empty while a character is incomplete."""
        self.ids.append(token)
        return self._take(final=len(self.ids) - self.read >= self.LONGEST_CHARACTER)

    def flush(self) -> str:
        """What is left at the end, incomplete characters included."""
        return self._take(final=True)

    def _take(self, final: bool) -> str:
        before = self.decode(self.ids[self.begin : self.read])
        text = self.decode(self.ids[self.begin :])
        if not final and text.endswith("\ufffd"):
            return ""
        self.begin, self.read = self.read, len(self.ids)
        return text[len(before) :]
