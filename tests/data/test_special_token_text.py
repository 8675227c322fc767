"""Text of control tokens stays text, and the alias tokenizer changes no other token."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from burnish.data.dataset import DatasetSpec
from burnish.data.read import read_rows
from burnish.data.records import Completion, Conversation, Message
from burnish.data.rendering import complete, render
from burnish.data.special_token_text import AliasTokenizer, SpecialTokenText
from burnish.data.template import Template, choose_template
from burnish.data.tokenize import Sample, tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError

Write = Callable[..., str]
parts = st.lists(
    st.sampled_from(["a", "é ", "日本", "\n", "the", "<|", "<|im_end|>", "<|im_start|>", "<s>", "</s>", "|>"])
)


def talk(*contents: str) -> Conversation:
    return Conversation(
        tuple(Message("assistant" if i % 2 else "user", c, trained=bool(i % 2)) for i, c in enumerate(contents))
    )


def sampled(conversation: Conversation, tokenizer: PreTrainedTokenizerBase, template: Template) -> list[Sample]:
    renderings = render(
        conversation, Writer(tokenizer, template), "assistant", SpecialTokenText.of(tokenizer, template)
    )
    return [sample for sample in tokenize(renderings, tokenizer) if isinstance(sample, Sample)]


@given(pieces=parts)
def test_the_alias_tokenizer_gives_the_same_ids(tokenizer: PreTrainedTokenizerBase, pieces: list[str]) -> None:
    text = "".join(pieces)
    core, alias_tokenizer = tokenizer.backend_tokenizer, AliasTokenizer(tokenizer.backend_tokenizer)
    plain, named = (
        core.encode(text, add_special_tokens=False),
        alias_tokenizer.core.encode(alias_tokenizer.with_aliases(text, ()), add_special_tokens=False),
    )
    assert named.ids == plain.ids
    assert named.offsets == plain.offsets


@given(before=st.text("ab \n", max_size=5), after=st.text("ab \n", max_size=5))
def test_ordinary_text_is_tokenized_as_without_control_tokens(before: str, after: str) -> None:
    """Reference: text between the template's control tokens is tokenized by a tokenizer without control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())

    def build(*special: str) -> PreTrainedTokenizerFast:
        core = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        core.add_special_tokens(list(special))
        return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=special[0] if special else None)

    full, bare = build("<|im_end|>", "<|im_start|>"), build()
    content = f"{before}<|im_end|>{after}"
    (sample,) = sampled(talk(content, "yes"), full, choose_template(full, "chatml"))
    start, end = full.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    expected = [start, *bare(f"user\n{content}").input_ids, end, *bare("\n").input_ids]
    expected += [start, *bare("assistant\nyes").input_ids, end]
    assert sample.tokens.tolist() == expected
    assert sample.num_ordinary == 1


@pytest.mark.parametrize("place", ["user", "assistant", "tool", "tools", "arguments"])
def test_from_every_place_of_a_row(byte_level: PreTrainedTokenizerBase, place: str) -> None:
    contents = {
        name: "<|im_end|>" if name == place else "x" for name in ("user", "assistant", "tool", "tools", "arguments")
    }
    call = {"function": {"name": "f", "arguments": {contents["arguments"]: contents["arguments"]}}}
    conversation = Conversation(
        (
            Message("user", contents["user"]),
            Message("assistant", "", {"tool_calls": [call]}, trained=True),
            Message("tool", contents["tool"]),
            Message("assistant", contents["assistant"], trained=True),
        ),
        tools=({"name": "f", "description": contents["tools"]},),
    )
    template = Template(
        "{{ tools | tojson }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{{ m.tool_calls | tojson if m.tool_calls }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (sample,) = sampled(conversation, byte_level, template)
    end = byte_level.convert_tokens_to_ids("<|im_end|>")
    assert sample.tokens.tolist().count(end) == 4
    assert sample.num_ordinary == (2 if place == "arguments" else 1)


def test_tags_that_are_not_special_are_the_assistants_to_write() -> None:
    """The assistant may write <think> as a token; in other messages a tag of the template is text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.add_special_tokens(["<end>"])
    core.add_tokens([AddedToken("<think>", special=False), AddedToken("<b>", special=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    template = Template(
        "{% for m in messages %}{{ m.content }}<end>{% endfor %}{# <think> #}{{ '' if 1 else '<think>' }}"
    )
    think, bold = tokenizer.convert_tokens_to_ids(["<think>", "<b>"])
    (sample,) = sampled(talk("<think><b>", "<think><b>"), tokenizer, template)
    assert sample.tokens.tolist().count(think) == 1
    assert sample.tokens.tolist().count(bold) == 2  # the template knows nothing of it: an ordinary word
    assert sample.trainable[sample.tokens.tolist().index(think)]


def test_a_template_that_decides_by_such_text_is_refused(byte_level: PreTrainedTokenizerBase) -> None:
    template = Template("{% for m in messages %}{{ m.content.split('<|im_end|>')[0] }}!{% endfor %}")
    with pytest.raises(DataError, match="the template decides by it"):
        sampled(talk("a<|im_end|>b", "c"), byte_level, template)


def test_private_characters_do_not_become_control_tokens(byte_level: PreTrainedTokenizerBase) -> None:
    alias_tokenizer = AliasTokenizer(byte_level.backend_tokenizer)
    forged = next(iter(alias_tokenizer._aliases.values()))
    template = choose_template(byte_level, "chatml")
    (sample,) = sampled(talk(forged, "b"), byte_level, template)  # without control text there is no twin to fool
    assert sample.tokens.tolist().count(byte_level.convert_tokens_to_ids("<|im_end|>")) == 2
    assert sampled(talk(f"{forged}<|im_end|>", "b"), byte_level, template) == []


def test_completions_keep_their_own_begin_and_end(llama_style: PreTrainedTokenizerBase) -> None:
    control = SpecialTokenText.of(llama_style, None)
    rendering = complete(Completion("<s>a</s>", "b<s></s>"), llama_style, control)
    assert rendering.text == "<s>a</s>b<s></s>"
    assert [rendering.text[a:b] for a, b in rendering.ordinary] == ["</s>", "<s>"]
    (sample,) = tokenize([rendering], llama_style)
    assert isinstance(sample, Sample)
    begin, end = llama_style.bos_token_id, llama_style.eos_token_id
    assert [token for token in sample.tokens.tolist() if token in (begin, end)] == [begin, end]


def test_control_tokens_on_request(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write({"question": "a<|im_end|>", "answer": "b"}, {"question": "a", "answer": "b"})
    template = choose_template(byte_level, "chatml")
    end = byte_level.convert_tokens_to_ids("<|im_end|>")
    counts = {}
    for rule in ("text", "tokens"):
        prepared = DatasetSpec.of(
            read_rows(path), byte_level, template, max_length=99, special_tokens_in_text=rule
        ).whole()
        counts[rule] = [group.prompt.tolist().count(end) for group in prepared], prepared.report.with_control_text
    assert counts == {"text": ([1, 1], 1), "tokens": ([2, 1], 0)}


def test_an_alias_tokenizer_of_a_unigram_tokenizer() -> None:
    pieces = [
        ("<unk>", 0.0),
        ("<end>", 0.0),
        ("a", -1.0),
        ("b", -1.0),
        ("<", -3.0),
        (">", -3.0),
        *((c, -4.0) for c in "end"),
    ]
    core = Tokenizer(models.Unigram(pieces, 0, False))
    core.add_special_tokens(["<unk>", "<end>"])
    alias_tokenizer = AliasTokenizer(core)
    text = "a<end>b<end>"
    assert (
        alias_tokenizer.core.encode(alias_tokenizer.with_aliases(text, ()), add_special_tokens=False).ids
        == core.encode(text).ids
    )
    encoding = alias_tokenizer.core.encode(alias_tokenizer.with_aliases(text, ((1, 6),)), add_special_tokens=False)
    assert [core.id_to_token(token) for token in encoding.ids] == ["a", "<", "e", "n", "d", ">", "b", "<end>"]
    assert json.loads(core.to_str())["added_tokens"][1]["content"] == "<end>"
