"""Settings of reading and tokenizing rows: the same in training and in `burnish eval`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.data.filter_rules import FilterRules
from burnish.data.formats.format import Stage
from burnish.data.settings import Comparison, Overlong, SpecialTokenRule, TrainOn
from burnish.settings.aliases import OVERLONG_RENAMED, named_here
from burnish.settings.data import FormatName, PromptTemplate
from burnish.settings.numbers import Fraction, Positive


class DataSettings(Settings):
    """Settings of reading and tokenizing rows."""

    serves: ClassVar[Stage] = "sft"
    """The stage whose formats the rows have."""

    @property
    def comparison(self) -> Comparison | None:
        """Kind of comparison that rows must have; None: they have none."""
        return None

    @property
    def score_names(self) -> tuple[str, ...]:
        """Columns with the scores of a response; (): rows have one of the named formats."""
        return ()

    @property
    def filter_rules(self) -> FilterRules | None:
        """What happens to flawed comparisons; None: there are none."""
        return None

    format: FormatName | None = None
    """Format of the rows: its name, or file.py:function; null: recognized by the columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of columns, as field of the format: column of the data, such as {question: problem, answer: solution}."""
    prompt_template: PromptTemplate | None = None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    prompt as it is."""
    documents: Literal["file", "paragraph", "line"] = "file"
    """Unit of a text file that is one document: the file, a paragraph or a line."""
    chat_template: str | None = None
    """Chat template: plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, or
    plain if it has none."""
    chat_template_kwargs: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """Variables of the chat template, such as enable_thinking: false."""
    train_on: TrainOn = "assistant"
    """Trained part of a conversation: assistant (all assistant turns), last (the last one), answers (assistant turns
    without reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: SpecialTokenRule = "text"
    """Tokenization of special tokens' names that occur in a row's text: text (as ordinary characters), or tokens."""
    max_length: Annotated[int, Field(ge=2)] | None = None
    """Maximum length of a row, tokens; null: the model's positions."""
    overlong: Annotated[Overlong, BeforeValidator(named_here(OVERLONG_RENAMED))] = "auto"
    """Treatment of longer rows: auto removes them if they are at most 2 % of the rows, and else stops the run; error
    stops the run, truncate cuts the end of the response, drop_turns removes the earliest turns of the conversation,
    drop removes the row. Plain text is always split into pieces."""
    max_invalid_fraction: Fraction = 0.0
    """Largest share of rows that may be invalid; they are left out and listed in the run folder. 0: one stops the
    run."""
    tokens_per_microbatch: Positive | None = None
    """Maximum number of tokens in a microbatch: bounds the memory and does not change the result; null: 1024 on a CPU,
    4096 on a GPU, or the longest row."""

    @property
    def of_answers(self) -> DataSettings:
        """The same settings for rows with reference answers: without the keys that describe the rows' format."""
        values = {name: value for name, value in self if name in DataSettings.model_fields}
        return DataSettings(**{**values, "format": None, "columns": {}, "prompt_template": None})

    @model_validator(mode="after")
    def _a_row_fits_into_a_microbatch(self) -> DataSettings:
        if self.max_length and self.tokens_per_microbatch and self.max_length > self.tokens_per_microbatch:
            raise ValueError(
                f"a row of max_length {self.max_length} cannot be split over microbatches of "
                f"{self.tokens_per_microbatch} tokens; raise tokens_per_microbatch or lower max_length"
            )
        return self
