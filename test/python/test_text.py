"""Tokenizer conventions: BOS, stop tokens, chat templates, and text that comes token by token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from setun.diagnostics import SetunError
from setun.random_checkpoint import BOS, EOS, tokenizer_json
from setun.text import Text, TextStream


def make(tokenizer: dict[str, Any] | None = None, **files: Any) -> Text:
    """A byte-level tokenizer (ids are bytes) and further files: JSON objects, or text for the template."""
    contents = {"tokenizer.json": json.dumps(tokenizer or tokenizer_json()).encode()}
    for name, value in files.items():
        name = "chat_template.jinja" if name == "template" else f"{name}.json"
        contents[name] = value.encode() if isinstance(value, str) else json.dumps(value).encode()
    return Text(contents)


def with_bos(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The post-processor of later Llama-3 files, which puts BOS first."""
    token = "<|begin_of_text|>"
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [BOS], "tokens": [token]}},
    }
    return tokenizer


BOS_CONFIG = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


def test_bos_comes_only_where_something_says_so() -> None:
    assert make().encode("Hi") == [72, 105]
    assert make(tokenizer_config=BOS_CONFIG).encode("Hi") == [72, 105]
    assert make(tokenizer_config=BOS_CONFIG | {"add_bos_token": True}).encode("Hi") == [BOS, 72, 105]
    assert make(with_bos(tokenizer_json()), tokenizer_config=BOS_CONFIG).encode("Hi") == [BOS, 72, 105]


def test_bos_never_comes_twice() -> None:
    text = make(with_bos(tokenizer_json()), tokenizer_config=BOS_CONFIG | {"add_bos_token": True})
    assert text.encode("<|begin_of_text|>Hi") == [BOS, 72, 105]
    plain = make(tokenizer_config=BOS_CONFIG)
    assert plain.encode("<|begin_of_text|>Hi") == [BOS, 72, 105]


def test_bos_token_of_several_spellings() -> None:
    assert make(tokenizer_config={"bos_token": {"content": "<|begin_of_text|>"}}).bos == BOS
    assert make(special_tokens_map=BOS_CONFIG).bos == BOS
    assert make(config={"bos_token_id": 9}).bos == 9
    assert make(config={"bos_token_id": 9}, generation_config={"bos_token_id": 8}).bos == 8
    assert make().bos is None


def test_stop_tokens_are_the_union() -> None:
    assert make().stops() == set()
    assert make(config={"eos_token_id": 5}, generation_config={"eos_token_id": [6, 7]}).stops() == {5, 6, 7}
    assert make(config={"eos_token_id": None}, tokenizer_config=BOS_CONFIG).stops() == {EOS}


def test_what_closes_a_turn_in_the_template_stops() -> None:
    tokenizer = tokenizer_json()
    flags = {key: value for key, value in tokenizer["added_tokens"][0].items() if key not in ("id", "content")}
    tokenizer["added_tokens"].append({"id": 258, "content": "<|eot_id|>", **flags})
    template = "{{ messages[0]['content'] }}<|eot_id|>"
    assert make(tokenizer, config={"eos_token_id": EOS}).stops() == {EOS}
    assert make(tokenizer, config={"eos_token_id": EOS}, template=template).stops() == {EOS, 258}
    assert make(tokenizer, tokenizer_config={"chat_template": template}).stops() == {258}


TEMPLATE_2B4T = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


def test_chat_templates() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hello "}]
    wanted = "System: Be brief.<|eot_id|>User: Hello<|eot_id|>Assistant: "
    assert make(template=TEMPLATE_2B4T).chat(messages) == wanted
    assert make(tokenizer_config={"chat_template": TEMPLATE_2B4T}).chat(messages) == wanted
    named = [{"name": "tool", "template": "x"}, {"name": "default", "template": TEMPLATE_2B4T}]
    assert make(tokenizer_config={"chat_template": named}).chat(messages) == wanted
    assert make(chat_template={"chat_template": TEMPLATE_2B4T}).chat(messages) == wanted


def test_templates_get_the_special_tokens() -> None:
    template = "{{ bos_token }}{% if messages[0].role != 'user' %}{{ raise_exception('no user') }}{% endif %}"
    text = make(template=template, tokenizer_config=BOS_CONFIG)
    assert text.chat([{"role": "user", "content": ""}]) == "<|begin_of_text|>"
    with pytest.raises(SetunError, match=r"refuses this conversation .no user."):
        text.chat([{"role": "system", "content": ""}])


@pytest.mark.parametrize(
    "template", ["{{ messages.__class__.__mro__[1].__subclasses__() }}", "{{ 1 / 0 }}", "{{ {}.missing.name }}"]
)
def test_templates_are_confined(template: str) -> None:
    text = make(template=template)
    with pytest.raises(SetunError, match="refuses"):
        text.chat([{"role": "user", "content": ""}])


def test_what_is_missing_or_damaged_is_said() -> None:
    with pytest.raises(SetunError, match=r"has no tokenizer\.json"):
        Text({})
    with pytest.raises(SetunError, match=r"chat_template\.jinja is not valid UTF-8"):
        Text({"tokenizer.json": json.dumps(tokenizer_json()).encode(), "chat_template.jinja": b"\xff"})
    with pytest.raises(SetunError, match=r"tokenizer\.json cannot be read"):
        Text({"tokenizer.json": b"{}"})
    with pytest.raises(SetunError, match=r"config\.json is not valid JSON"):
        make(config="{")
    with pytest.raises(SetunError, match="no chat template"):
        make().chat([{"role": "user", "content": ""}])


def pieces(text: Text, data: bytes, context: bytes = b"") -> list[str]:
    stream = TextStream(text.decode, list(context))
    return [*(stream.push(byte) for byte in data), stream.flush()]


def test_characters_come_whole() -> None:
    text = make()
    assert pieces(text, "añ😀b".encode()) == ["a", "", "ñ", "", "", "", "😀", "b", ""]
    assert "".join(pieces(text, "Grüße, 世界".encode())) == "Grüße, 世界"


def test_an_incomplete_character_comes_at_the_end() -> None:
    assert pieces(make(), "a😀".encode()[:-1]) == ["a", "", "", "", "\ufffd"]


def test_invalid_bytes_do_not_hold_the_text_forever() -> None:
    got = pieces(make(), b"\xff" * 20 + b"ok")
    assert "".join(got[:9]) != ""
    assert "".join(got).endswith("ok")


def test_a_character_may_begin_in_the_prompt() -> None:
    assert "".join(pieces(make(), b"\xb1o", context="n\u00f1".encode()[:-1])).endswith("o")


def test_special_tokens_give_no_text() -> None:
    text = make()
    stream = TextStream(text.decode)
    assert [stream.push(BOS), stream.push(72), stream.push(EOS), stream.flush()] == ["", "H", "", ""]


def metaspace_decode(ids: Any) -> str:
    """As SentencePiece: the blank before the first word is dropped, so pieces must be seen in context."""
    words = ["\u2581Hello", "\u2581world", "!"]
    return "".join(words[i] for i in ids).replace("\u2581", " ").removeprefix(" ")


def test_blanks_between_words_are_kept() -> None:
    stream = TextStream(metaspace_decode)
    assert [stream.push(0), stream.push(1), stream.push(2)] == ["Hello", " world", "!"]
    after_prompt = TextStream(metaspace_decode, [0])
    assert after_prompt.push(1) == " world"
