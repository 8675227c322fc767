"""Names of roles in other data sets."""

from __future__ import annotations

ROLE_ALIASES = (
    dict.fromkeys(("human", "prompter"), "user")
    | dict.fromkeys(("gpt", "chatgpt", "bot", "chatbot", "ai", "model", "bing", "bard", "claude"), "assistant")
    | dict.fromkeys(("function", "ipython", "observation", "function_response", "tool_response"), "tool")
    | dict.fromkeys(("function_call", "tool_call"), "assistant")
)
"""Name of a role -> our role."""
CALL_ROLES = ("function_call", "tool_call")
"""ShareGPT's roles of an assistant's turn whose value is a tool call, or a list of them, as JSON."""


def is_assistant(role: object) -> bool:
    """True for each name of the assistant, also where its turn is a call."""
    return isinstance(role, str) and ROLE_ALIASES.get(role, role) == "assistant"
