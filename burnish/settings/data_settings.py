"""What a user may say of how rows are read and made into tokens: the same in training and in `burnish eval`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.data.filter_rules import FilterRules
from burnish.data.formats.format import Stage
from burnish.data.settings import Comparison, Overlong, SpecialTokenRule, TrainOn
from burnish.settings.aliases import OVERLONG_RENAMED, named_here
from burnish.settings.data import FormatName
from burnish.settings.numbers import Fraction, Positive


class DataSettings(Settings):
    """From rows to tokens."""

    serves: ClassVar[Stage] = "sft"
    """The stage whose rows these are."""

    @property
    def comparison(self) -> Comparison | None:
        """What is learned from judged responses; None: rows have none."""
        return None

    @property
    def score_names(self) -> tuple[str, ...]:
        """Columns with the scores of a response; (): rows have one of the formats."""
        return ()

    @property
    def gate_rules(self) -> FilterRules | None:
        """What happens to flawed comparisons; None: there are none."""
        return None

    format: FormatName | None = None
    """What a row means: a format's name, or file.py:function; null: recognised by the columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name: the column that has it, such as {question: problem, answer: solution}."""
    documents: Literal["file", "paragraph", "line"] = "file"
    """What one document of a text file is."""
    chat_template: str | None = None
    """plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, and plain if it has
    none."""
    chat_template_kwargs: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """Variables that the chat template reads, such as enable_thinking: false."""
    train_on: TrainOn = "assistant"
    """What is learned of a conversation: assistant (all its turns), last (the last of them), answers (they without
    reasoning), reasoning, tool_calls, everything."""
    special_tokens_in_text: SpecialTokenRule = "text"
    """What the text of special tokens in a row becomes: text (the characters that it consists of), or tokens."""
    max_length: Annotated[int, Field(ge=2)] | None = None
    """Longest row, tokens; null: the model's positions."""
    overlong: Annotated[Overlong, BeforeValidator(named_here(OVERLONG_RENAMED))] = "error"
    """What happens to longer rows: error stops the run, truncate cuts the end of their response, drop_turns leaves out
    the earliest turns of their conversation, drop leaves them out. Plain text is always cut into pieces."""
    max_invalid_fraction: Fraction = 0.0
    """Share of the rows that may be invalid; they are left out, and listed in the run folder. 0: any stops the run."""
    tokens_per_microbatch: Positive | None = None
    """Most tokens computed at once: a memory knob that does not change the result; null: 1024 on a CPU, 4096
    on a GPU, or the longest row."""

    @property
    def of_answers(self) -> DataSettings:
        """The same for rows of another kind, whose answers are right ones: without what says what a row means."""
        values = {name: value for name, value in self if name in DataSettings.model_fields}
        return DataSettings(**{**values, "format": None, "columns": {}})

    @model_validator(mode="after")
    def _a_row_fits_into_a_microbatch(self) -> DataSettings:
        if self.max_length and self.tokens_per_microbatch and self.max_length > self.tokens_per_microbatch:
            raise ValueError(
                f"a row of max_length {self.max_length} cannot be split over microbatches of "
                f"{self.tokens_per_microbatch} tokens; raise tokens_per_microbatch or lower max_length"
            )
        return self
