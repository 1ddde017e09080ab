"""What one model's chat template is made for, so how a conversation is rendered for it and its answer is read.

That is its syntax of tool calls, its reasoning span, and how the assistant's last message is continued.
"""

import secrets
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import msgspec

from appliance.calls import ChatMessage
from appliance.engine.llama.chat.answer import AnswerParser, PlainParser
from appliance.engine.llama.chat.conversation import Mark, Turn, template_tools, template_turns
from appliance.engine.llama.chat.generic_tools import explain_tools, with_instructions, without_tool_turns
from appliance.engine.llama.chat.markers import find_marker
from appliance.engine.llama.chat.reasoning import find_span
from appliance.engine.llama.chat.syntax import find_syntax
from appliance.engine.llama.chat.template import ChatTemplate
from appliance.engine.llama.chat.tool_grammar import tool_grammar
from appliance.engine.llama.chat.tool_parser import SpanParser
from appliance.engine.llama.chat.tools import ToolPlan
from appliance.engine.llama.vocab import Vocab
from appliance.errors import InvalidArgument


class Rendered(msgspec.Struct, frozen=True):
    """A prompt. ``inside``: the answer starts in a reasoning span. ``thinks``: it may begin with one."""

    text: str
    inside: bool = False
    thinks: bool = False


class AnswerForm(msgspec.Struct, frozen=True):
    """How an answer is held to its form ("": not at all) and read; ``shown``: control tokens that the parser needs."""

    grammar: str = ""
    parser: Callable[[], AnswerParser] = PlainParser
    shown: frozenset[int] = frozenset()


class Dialect:
    """See the module."""

    def __init__(self, template: ChatTemplate, vocab: Vocab) -> None:
        self._template = template
        self.syntax = find_syntax(template.source)
        self.span = find_span(template.source, vocab)
        self._markers = {text: find_marker(vocab, text) for text in self.syntax.markers}

    @cached_property
    def _knows_system(self) -> bool:
        """Whether the template writes a system message: some refuse it, some leave it out."""
        probe = secrets.token_hex(16)
        try:
            return probe in self._template.render(
                [{"role": "system", "content": probe}, {"role": "user", "content": "?"}]
            )
        except InvalidArgument:
            return False

    def render(self, messages: Sequence[ChatMessage], plan: ToolPlan | None, mark: Mark, *, thinking: bool) -> Rendered:
        """The prompt for the next turn; a last message of the assistant's is its end, and the answer's beginning.

        Without ``thinking`` a reasoning span that the template opens is closed. Raises InvalidArgument when the
        template refuses the messages.
        """
        turns = template_turns(messages, mark, short_ids=self.syntax.opening == "[TOOL_CALLS]")
        tools = template_tools(plan.offered, mark) if plan else None
        if not self.syntax.native:
            turns = without_tool_turns(turns)
            if plan and tools:
                instructions = explain_tools(plan, tools)
                turns = with_instructions(turns, instructions, knows_system=self._knows_system)
            tools = None
        last = messages[-1]
        continues = last.role == "assistant" and not last.tool_calls
        if continues:
            text = self._continued(turns, tools, thinking)
        else:
            text = self._template.render(turns, tools=tools, thinking=thinking)
        if self.span is None:
            return Rendered(text)
        inside = self.span.left_open_in(last.content) if continues else self.span.opened_by(text)
        if not thinking:
            return Rendered(self.span.closed(text) if inside else text)
        return Rendered(text, inside, thinks=not (continues and last.content))

    def _continued(self, turns: Sequence[Turn], tools: Sequence[Turn] | None, thinking: bool) -> str:
        """The conversation up to the end of its last turn's content, without what the template writes after a turn."""
        # Templates end turns in ways of their own; a text that stands for the content shows where it begins.
        stand_in = f"{secrets.randbelow(10**32):032}"
        stood_in = [*turns[:-1], {**turns[-1], "content": stand_in}]
        rendered = self._template.render(stood_in, tools=tools, next_turn=False, thinking=thinking)
        place = rendered.rfind(stand_in)
        if place < 0:
            raise InvalidArgument(
                "the model's chat template doesn't write the last message's content as it is, so it cannot be continued",
                reason="PREFILL_UNSUPPORTED",
            )
        return rendered[:place] + str(turns[-1]["content"])

    def answer(self, plan: ToolPlan | None, rendered: Rendered) -> AnswerForm:
        """How the answer to ``rendered`` is held to its form and read."""
        inside, thinks = rendered.inside, rendered.thinks
        span = self.span if inside or thinks else None
        if plan is None and span is None:
            return AnswerForm()
        markers = [span.opening, span.closing] if span else []
        grammar = ""
        if plan:
            markers += self._markers.values()
            grammar = tool_grammar(plan, self.syntax, self._markers, span, inside=inside)
        words = (span.opening.text, span.closing.text) if span else None
        parser = partial(SpanParser, words, inside=inside, syntax=self.syntax if plan else None)
        shown = frozenset(m.token for m in markers if m.token is not None and m.control)
        return AnswerForm(grammar, parser, shown)
