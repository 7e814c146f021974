"""What of a client's request is read, refused by name, or left for a later day."""

from __future__ import annotations

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from agent_gateway.core.call import Call, Keeping
from agent_gateway.core.conversation import (
    File,
    Image,
    JsonFormat,
    Media,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.openai_responses.client_request import read_call, read_conversation
from agent_gateway.protocols.openai_responses.codec import UNREAD
from agent_gateway.wire.openai_responses import Request, RequestHead

HI = b'"input":"Hi"'

#: Members beside the model, the field at fault, part of what is said; refused by whoever reads the head.
BAD_HEADS = [
    (b'"tools":[]', "input", "input: this field is required"),
    (b'"input":[ ]', "input", "a string or a non-empty array"),
    (b'"input":7', "input", "a string or a non-empty array"),
    (b'"input":null', "input", "a string or a non-empty array"),
    (b'"stream":"yes",' + HI, "stream", "expected true, false or null, got a string."),
    (b'"max_output_tokens":"many",' + HI, "max_output_tokens", "expected a whole number or null"),
    (b'"tools":{},' + HI, "tools", "expected an array or null, got an object."),
    (b'"text":{"format":{"type":1}},' + HI, "text.format.type", "got a number."),
    (b'"previous_response_id":7,' + HI, "previous_response_id", "expected a string"),
    (b'"conversation":{"name":"conv_1"},' + HI, "conversation.id", "this field is required"),
    (b'"previous_response_id":"resp_1","conversation":"conv_1",' + HI, "previous_response_id", "together with conversation"),
    (b'"prompt":{"id":"p"},' + HI, "prompt", "prompt: not available yet"),
    (b'"background":true,"store":false,' + HI, "background", "needs store to be true"),
]

#: The same, of what only a model needs.
BAD_BODIES = [
    (b'"input":["Hi"]', "input[0]", "expected an object."),
    (b'"input":[{"content":"Hi"}]', "input[0].type", "required"),
    (b'"input":[{"role":"user"}]', "input[0].content", "required"),
    (b'"input":[{"role":"tool","content":"x"}]', "input[0].role", "tool"),
    (b'"input":[{"role":"user","content":[{"text":"x"}]}]', "input[0].content[0].type", "required"),
    (b'"input":[{"role":"user","content":[{"type":"input_text"}]}]', "input[0].content[0].text", "required"),
    (b'"input":[{"role":"user","content":[{"type":"input_image"}]}]', "input[0].content[0].image_url", "required"),
    (b'"input":[{"role":"user","content":[{"type":"input_file"}]}]', "input[0].content[0].file_data", "required"),
    (b'"input":[{"type":"function_call","name":"f","arguments":"{}"}]', "input[0].call_id", "required"),
    (b'"input":[{"type":"function_call_output","output":"x"}]', "input[0].call_id", "required"),
    (b'"input":[{"type":"function_call_output","call_id":"c","output":{}}]', "input[0].output", "got an object."),
    (b'"input":[{"type":"item_reference","id":"msg_1"}]', "input[0]", "no item of that id is kept here"),
    (b'"input":[{"id":"msg_1"}]', "input[0]", "no item of that id is kept here"),
    (b'"instructions":5,' + HI, "instructions", "expected a string or null"),
    (b'"max_output_tokens":0,' + HI, "max_output_tokens", "of at least 1"),
    (b'"tools":[{"type":"function"}],' + HI, "tools[0].name", "required"),
    (b'"tool_choice":"any",' + HI, "tool_choice", "auto, none, required"),
    (b'"tool_choice":{"type":"function"},' + HI, "tool_choice.name", "required"),
    (b'"text":{"format":{"type":"json_schema","name":"x"}},' + HI, "text.format.schema", "required"),
    (b'"reasoning":{"effort":"huge"},' + HI, "reasoning.effort", "huge"),
    (b'"metadata":{"a":1},' + HI, "metadata[...]", "expected a string"),
]


def body(members: bytes) -> bytes:
    return b'{"model":"m",' + members + b"}"


def call(members: bytes) -> Call:
    return read_call(body(members), {})


@pytest.mark.parametrize(("members", "param", "said"), BAD_HEADS, ids=[f"{param} {said}" for _, param, said in BAD_HEADS])
def test_a_bad_head_names_its_field(members: bytes, param: str, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        call(members)
    assert caught.value.param == param
    assert said in caught.value.message
    assert "`" not in caught.value.message


@pytest.mark.parametrize(("members", "param", "said"), BAD_BODIES, ids=[f"{param} {said}" for _, param, said in BAD_BODIES])
def test_what_only_a_model_needs_is_refused_only_when_it_is_translated(members: bytes, param: str, said: str) -> None:
    passed = call(members)
    with pytest.raises(BadRequest) as caught:
        read_conversation(passed)
    assert caught.value.param == param
    assert said in caught.value.message
    assert caught.value.message.startswith(param)


def test_a_body_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(BadRequest, match="not valid UTF-8"):
        call(b'"input":"\xff"')


def test_what_the_gateway_acts_on() -> None:
    read = read_call(
        body(
            b'"input":[{"role":"user","content":[{"type":"input_image","image_url":"x"},{"type":"input_file"}]}],"stream":true,'
            b'"max_output_tokens":9,"safety_identifier":"u","tools":[{"type":"function","name":"f"}],'
            b'"text":{"format":{"type":"json_schema"}},"reasoning":{"effort":"low"},"store":true,"previous_response_id":null'
        ),
        {"openai-beta": "x"},
    )
    assert read == Call(
        dialect="openai_responses",
        model="m",
        body=read.body,
        stream=True,
        max_output_tokens=9,
        user="u",
        wants_json=True,
        conversational=False,
        forward_headers={"openai-beta": "x"},
        needs=frozenset({"vision", "documents", "tools", "json_schema", "reasoning"}),
        keeping=Keeping(),
    )


@pytest.mark.parametrize(
    ("members", "keeping"),
    [
        (b'"store":null', Keeping()),
        (b'"store":false', None),
        (b'"store":false,"previous_response_id":"resp_1"', Keeping(store=False, previous="resp_1")),
        (b'"conversation":"conv_1"', Keeping(conversation="conv_1")),
        (b'"conversation":{"id":"conv_1"},"previous_response_id":null', Keeping(conversation="conv_1")),
        (b'"background":true', Keeping(background=True)),
    ],
)
def test_what_is_to_be_kept(members: bytes, keeping: Keeping | None) -> None:
    assert call(members + b"," + HI).keeping == keeping


@pytest.mark.parametrize(
    "members",
    [HI, HI + b',"tools":[],"reasoning":{"effort":null}', rb'"input":"say \"input_image\""', HI + b',"tool_choice":"auto"'],
)
def test_a_plain_request_needs_nothing(members: bytes) -> None:
    read = call(members)
    assert not read.needs
    assert read.conversational


def test_every_kind_of_item_is_read() -> None:
    read = read_conversation(
        call(
            b'"instructions":"Be brief.","input":['
            b'{"role":"developer","content":"In French."},'
            b'{"role":"user","content":[{"type":"input_text","text":"What is this?"},'
            b'{"type":"input_image","image_url":"data:image/png;base64,aGk=","detail":"low"},'
            b'{"type":"input_image","file_id":"file-1"},'
            b'{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,aGk="},'
            b'{"type":"input_file","file_data":"aGk="},{"type":"input_file","file_url":"https://example.com/b.pdf"}]},'
            b'{"type":"reasoning","id":"rs_x","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"agw^anthropic:SIG"},'
            b'{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":['
            b'{"type":"output_text","text":"Let me see.","annotations":[]},{"type":"refusal","refusal":"No."}]},'
            b'{"type":"function_call","id":"fc_1","call_id":"c1","name":"look","arguments":"{}"},'
            b'{"type":"function_call","call_id":"c2","name":"look","arguments":""},'
            b'{"type":"function_call_output","call_id":"c1","output":"A cat"},'
            b'{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"},'
            b'{"type":"input_image","image_url":"https://example.com/c.png"}]},'
            b'{"type":"message","role":"user","content":"So?"},{"role":"user","content":"Well?"}]'
        )
    )
    assert read.beyond == ()
    assert read.turns == (
        Turn("system", (Text("Be brief."),)),
        Turn("developer", (Text("In French."),)),
        Turn(
            "user",
            (
                Text("What is this?"),
                Image(Media(data="aGk=", media_type="image/png"), "low"),
                Image(Media(file_id="file-1")),
                File(Media(data="aGk=", media_type="application/pdf"), "a.pdf"),
                File(Media(data="aGk=")),
                File(Media(url="https://example.com/b.pdf")),
            ),
        ),
        Turn(
            "assistant",
            (
                Reasoning("Hm.", "SIG", origin="anthropic"),
                Text("Let me see."),
                Refusal("No."),
                ToolUse("c1", "look", "{}"),
                ToolUse("c2", "look", ""),
            ),
        ),
        Turn(
            "user",
            (
                ToolResult("c1", (Text("A cat"),)),
                ToolResult("c2", (Text("two"), Image(Media(url="https://example.com/c.png")))),
            ),
        ),
        Turn("user", (Text("So?"),)),
        Turn("user", (Text("Well?"),)),
    )


def test_settings_are_read() -> None:
    read = read_conversation(
        call(
            HI + b',"tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":true},'
            b'{"type":"function","name":"g"}],"tool_choice":{"type":"allowed_tools","mode":"required",'
            b'"tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}]},"parallel_tool_calls":false,'
            b'"temperature":0.5,"top_p":1,"top_logprobs":3,"include":["message.output_text.logprobs","reasoning.encrypted_content"],'
            b'"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true},"verbosity":"low"},'
            b'"reasoning":{"effort":"max","summary":"detailed"},"user":"u","metadata":{"k":"v"},"service_tier":"flex","truncation":"auto"'
        )
    )
    assert read.tools == (Tool("f", "d", {"type": "object"}, True), Tool("g"))
    assert read.tool_choice == ToolChoice("required", ("f", "g"))
    assert read.parallel_tools is False
    assert (read.temperature, read.top_p, read.logprobs, read.top_logprobs) == (0.5, 1.0, True, 3)
    assert read.format == JsonFormat({"type": "object"}, "n", None, True)
    assert read.thinking == Thinking("xhigh", shown=True)
    assert (read.user, read.metadata) == ("u", {"k": "v"})
    assert read.beyond == ()
    assert [read.path(field) for field in ("turns", "format", "thinking", "user", "temperature")] == [
        "input",
        "text.format",
        "reasoning",
        "user",
        "temperature",
    ]


@pytest.mark.parametrize(
    ("members", "choice"),
    [
        (b'"auto"', ToolChoice("auto")),
        (b'"none"', ToolChoice("none")),
        (b'"required"', ToolChoice("required")),
        (b'{"type":"function","name":"f"}', ToolChoice("required", ("f",))),
        (b"null", None),
    ],
)
def test_how_tools_are_chosen(members: bytes, choice: ToolChoice | None) -> None:
    assert read_conversation(call(HI + b',"tool_choice":' + members)).tool_choice == choice


@pytest.mark.parametrize(
    ("members", "beyond"),
    [
        (b'"tools":[{"type":"function","name":"f"},{"type":"web_search"}]', "tools[1]"),
        (b'"tools":[{"type":"custom","name":"f"}]', "tools[0]"),
        (b'"tools":[{"type":"mcp","server_label":"x"}]', "tools[0]"),
        (b'"tool_choice":{"type":"file_search"}', "tool_choice"),
        (b'"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"mcp"}]}', "tool_choice"),
        (b'"text":{"format":{"type":"grammar"}}', "text.format"),
        (b'"moderation":{"model":"x"}', "moderation"),
        (b'"input":[{"type":"web_search_call","id":"ws_1","action":{}},{"role":"user","content":"Hi"}]', "input[0]"),
        (b'"input":[{"type":"computer_call_output","call_id":"c","output":{}}]', "input[0]"),
        (b'"input":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]', "input[0].content[0]"),
    ],
)
def test_what_no_other_protocol_can_say_is_named(members: bytes, beyond: str) -> None:
    told = members if b'"input":' in members else HI + b"," + members
    assert read_conversation(call(told)).beyond == (beyond,)


def test_where_the_user_was_told() -> None:
    assert read_conversation(call(HI + b',"safety_identifier":"u"')).path("user") == "safety_identifier"


@pytest.mark.parametrize("reasoning", [b"null", b"{}", b'{"effort":null,"summary":null}'])
def test_no_thinking_is_asked_for(reasoning: bytes) -> None:
    assert read_conversation(call(HI + b',"reasoning":' + reasoning)).thinking is None


#: A request's members, by the name that the table has for them.
LEFT: dict[str, bytes] = {
    "store": b'"store":true',
    "truncation": b'"truncation":"auto"',
    "context_management": b'"context_management":[{"type":"compaction"}]',
    "service_tier": b'"service_tier":"flex"',
    "prompt_cache_key": b'"prompt_cache_key":"k"',
    "prompt_cache_options": b'"prompt_cache_options":{"ttl":"12h"}',
    "prompt_cache_retention": b'"prompt_cache_retention":"24h"',
    "max_tool_calls": b'"max_tool_calls":3',
    "stream_options": b'"stream_options":{"include_obfuscation":true}',
    "include": b'"include":["reasoning.encrypted_content","web_search_call.action.sources"]',
    "image": b'"image":{"context_compression":"auto"}',
    "access_programs": b'"access_programs":{"cyber":"standard"}',
    "background_options": b'"background_options":{"completion_window":"soonest"}',
    "text.verbosity": b'"text":{"verbosity":"low"}',
}
#: Members of a message, and one.
MARKS = {"phase": b'"phase":"commentary",', "id": b'"id":"msg_1",', "status": b'"status":"completed",'}
SAID = b'"input":[{"role":"assistant",%b"content":[{"type":"output_text","text":"Hi"}]}]'
#: Inside what is read.
LEFT_INSIDE: dict[str, tuple[bytes, bytes]] = {
    "prompt_cache_breakpoint": (
        b'"input":[{"role":"user","content":[{"type":"input_text","text":"Hi","prompt_cache_breakpoint":{"mode":"explicit"}}]}]',
        b'"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]}]',
    ),
    "reasoning.summary": (HI + b',"reasoning":{"summary":"concise"}', HI + b',"reasoning":{"summary":"detailed"}'),
    "annotations": (SAID.replace(b'"Hi"', b'"Hi","annotations":[{"type":"file_path"}]') % b"", SAID % b""),
    **{name: (SAID % member, SAID % b"") for name, member in MARKS.items()},
}


def test_the_table_of_what_is_not_carried_over_is_whole() -> None:
    assert LEFT.keys() | LEFT_INSIDE.keys() == UNREAD.keys()


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_carried_over_changes_nothing(name: str) -> None:
    with_it, without_it = LEFT_INSIDE.get(name) or (HI + b"," + LEFT[name], HI)
    assert read_conversation(call(with_it)) == read_conversation(call(without_it))


def test_every_parameter_that_the_sdk_sends_is_accounted_for() -> None:
    accounted_for = {*Request.__struct_fields__, *RequestHead.__struct_fields__} | {name.partition(".")[0] for name in UNREAD}
    assert {*ResponseCreateParamsBase.__annotations__} - accounted_for == set()
