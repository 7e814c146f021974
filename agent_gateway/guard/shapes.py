"""Where in each protocol's requests texts stand: the one table that a new field has to be put into.

A shape is a mapping of members' names to shapes; lists are walked through, and what has no shape is passed over. `""` in a mapping
says what a plain string in the object's place is (`content` is a text or a list of parts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from agent_gateway.core.call import Dialect


class Leaf:
    """What a string is."""


#: Words.
TEXT: Final = Leaf()
#: JSON in a string, as in a tool call's arguments.
JSON: Final = Leaf()
#: Every string inside, names too: a tool's own arguments and results.
ALL: Final = Leaf()
#: A text where the object's `type` is `text`, else data.
TEXT_OR_DATA: Final = Leaf()

Shape: TypeAlias = "Mapping[str, Shape] | Leaf"

#: Objects of these types hold a model's thoughts.
THOUGHTS: Final = frozenset({"thinking", "redacted_thinking", "reasoning"})
#: Objects of these types hold what a model wants a tool to do.
CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use", "custom_tool_call", "code_interpreter_call", "file_search_call"})
#: Objects of these types hold what a tool said.
RESULTS: Final = frozenset(
    {
        "tool_result",
        "function_call_output",
        "custom_tool_call_output",
        "computer_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "mcp_call",
    }
)

_PARTS: Shape = {"": TEXT, "text": TEXT, "refusal": TEXT, "transcript": TEXT}

_CHAT: Shape = {
    "messages": {
        "content": _PARTS,
        "refusal": TEXT,
        "reasoning_content": TEXT,
        "tool_calls": {"function": {"arguments": JSON}, "custom": {"input": TEXT}},
        "function_call": {"arguments": JSON},
    },
    "prediction": {"content": _PARTS},
}

_COMPLETIONS: Shape = {"prompt": {"": TEXT}, "suffix": TEXT}

_EMBEDDINGS: Shape = {"input": _PARTS}

_OUTPUT: Shape = {"": TEXT, "text": TEXT, "stdout": TEXT, "stderr": TEXT}
_RESPONSES: Shape = {
    "instructions": TEXT,
    "prompt": {"variables": ALL},
    "input": {
        "": TEXT,
        "content": _PARTS,
        "summary": _PARTS,
        "arguments": JSON,
        "input": TEXT,
        "output": _OUTPUT,
        "action": ALL,
        "code": TEXT,
        "outputs": {"logs": TEXT},
        "queries": {"": TEXT},
        "results": {"text": TEXT},
        "operation": ALL,
    },
}

_SOURCE: Shape = {"data": TEXT_OR_DATA, "content": _PARTS}
_RESULT_PARTS: Shape = {
    "": TEXT,
    "text": TEXT,
    "title": TEXT,
    "context": TEXT,
    "source": _SOURCE,
    "content": {"": TEXT, "text": TEXT, "source": _SOURCE},
    "stdout": TEXT,
    "stderr": TEXT,
}
_ANTHROPIC: Shape = {
    "system": {"": TEXT, "text": TEXT},
    "messages": {
        "content": {
            "": TEXT,
            "text": TEXT,
            "thinking": TEXT,
            "title": TEXT,
            "context": TEXT,
            "source": _SOURCE,
            "input": ALL,
            "content": _RESULT_PARTS,
        },
    },
}

_GEMINI_PARTS: Shape = {
    "text": TEXT,
    "functionCall": {"args": ALL},
    "function_call": {"args": ALL},
    "functionResponse": {"response": ALL},
    "function_response": {"response": ALL},
    "executableCode": {"code": TEXT},
    "executable_code": {"code": TEXT},
    "codeExecutionResult": {"output": TEXT},
    "code_execution_result": {"output": TEXT},
}
_GEMINI_CONTENT: Shape = {"": TEXT, "parts": _GEMINI_PARTS}
_GEMINI: Shape = {"contents": _GEMINI_CONTENT, "systemInstruction": _GEMINI_CONTENT, "system_instruction": _GEMINI_CONTENT}

SHAPES: Final[dict[Dialect, Shape]] = {
    "openai_chat": _CHAT,
    "openai_completions": _COMPLETIONS,
    "openai_embeddings": _EMBEDDINGS,
    "openai_responses": _RESPONSES,
    "anthropic": _ANTHROPIC,
    "anthropic_count": _ANTHROPIC,
    "gemini": _GEMINI,
}
#: Members that hold a model's thoughts.
THOUGHT: Final = frozenset({"reasoning_content"})
#: Members that hold an operator's instructions, whatever is said of a role.
SYSTEM: Final = frozenset({"system", "instructions", "systemInstruction", "system_instruction"})
#: Members that hold what a model wants a tool to do, and what the tool said.
ASKED: Final = frozenset({"tool_calls", "functionCall", "function_call", "arguments", "action"})
TOLD: Final = frozenset({"functionResponse", "function_response", "codeExecutionResult", "code_execution_result"})
