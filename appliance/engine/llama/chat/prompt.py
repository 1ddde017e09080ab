"""From a GenerateCall to the token ids of its prompt, every bound checked before anything is computed."""

from collections.abc import Callable

import msgspec

from appliance import limits
from appliance.calls import Constraint, GenerateCall, TokenizeCall
from appliance.engine.llama.chat.answer import AnswerParser, PlainParser
from appliance.engine.llama.chat.conversation import check_messages
from appliance.engine.llama.chat.dialect import Dialect
from appliance.engine.llama.chat.template import ChatTemplate
from appliance.engine.llama.chat.tools import CheckedTool, ToolPlan, plan_tools
from appliance.engine.llama.vocab import Vocab, new_mark, utf8
from appliance.errors import ApplianceError, FailedPrecondition, InvalidArgument


class Prompt(msgspec.Struct):
    """What the engine needs to answer a call.

    ``constraint`` is what the answer must look like: the caller's own, or (``trusted``) one made out of his tools; None
    leaves it free. ``parser`` makes a parser for each of n answers. ``shown`` are the control tokens whose text (as it
    is written in the vocabulary) the parser must see: <tool_call>, [TOOL_CALLS], <|python_tag|>... ``tools`` are those
    that the constraint was made of, for ``blame_tool`` when it cannot be compiled.
    """

    tokens: list[int]
    constraint: Constraint | None = None
    trusted: bool = False
    parser: Callable[[], AnswerParser] = PlainParser
    shown: frozenset[int] = frozenset()
    tools: tuple[CheckedTool, ...] = ()


class PromptBuilder:
    """Turns prompts and conversations into tokens for one model.

    ``template`` is the model's chat template, or the error that says why there is none.
    """

    def __init__(self, vocab: Vocab, template: ChatTemplate | ApplianceError, context_tokens: int) -> None:
        self._vocab = vocab
        self._dialect = template if isinstance(template, ApplianceError) else Dialect(template, vocab)
        self._context_tokens = context_tokens

    @property
    def chats(self) -> bool:
        """Whether messages can be answered."""
        return isinstance(self._dialect, Dialect)

    def build(self, call: GenerateCall) -> Prompt:
        """At least one and at most ``context_tokens`` token ids.

        Raises InvalidArgument for a prompt, messages or tools that cannot be, FailedPrecondition for messages to a
        model that has no usable template.
        """
        if (call.prompt is None) == (call.messages is None):
            raise InvalidArgument("exactly one of prompt and messages must be given")
        plan = plan_tools(call)
        if call.prompt is not None:
            prompt = Prompt(self._continue(call.prompt), call.constraint)
        else:
            prompt = self._chat(call, plan)
        if not prompt.tokens:
            raise InvalidArgument("the prompt is empty", reason="PROMPT_EMPTY")
        if len(prompt.tokens) > self._context_tokens:
            raise self._overflow(f"{len(prompt.tokens):,}")
        return prompt

    def _continue(self, prompt: str) -> list[int]:
        text = utf8(prompt, "the prompt")
        self._check_size(text, "the prompt")
        # Whoever sends a bare prompt writes the control tokens himself, so they are read as such.
        return self._vocab.tokenize(text, add_special=True, parse_special=True)

    def _chat(self, call: GenerateCall, plan: ToolPlan | None) -> Prompt:
        messages = call.messages or ()
        check_messages(messages)
        dialect = self._dialect
        if isinstance(dialect, ApplianceError):
            raise type(dialect)(dialect.message, reason=dialect.reason)
        mark = new_mark()
        # A caller's constraint is for the whole answer, so nothing is thought before it.
        thinking = call.constraint is None
        rendered = dialect.render(messages, plan, lambda text: self._vocab.mark_special(text, mark), thinking=thinking)
        self._check_size(utf8(rendered.text.replace(mark, ""), "the rendered prompt"), "the rendered prompt")
        # Most templates write the token for the beginning of the text themselves; it must not stand there twice.
        bos = self._vocab.text(self._vocab.bos)
        begins = bool(bos) and rendered.text.startswith(bos)
        tokens = self._vocab.tokenize_marked(rendered.text, mark, add_special=not begins)
        answer = dialect.answer(plan, rendered)
        prompt = Prompt(tokens, call.constraint, False, answer.parser, answer.shown)
        if plan:
            prompt.constraint, prompt.trusted = Constraint("lark", answer.grammar), True
            prompt.tools = plan.callable
        return prompt

    def _check_size(self, text: bytes, what: str) -> None:
        if len(text) > limits.prompt_bytes_max:
            raise InvalidArgument(f"{what} has {len(text):,} bytes, at most {limits.prompt_bytes_max:,} are allowed")
        # Tokenizing megabytes takes seconds of the loop; what cannot fit in any case is refused before.
        least = self._vocab.tokens_at_least(text)
        if least > self._context_tokens:
            raise self._overflow(f"at least {least:,}")

    def _overflow(self, count: str) -> InvalidArgument:
        return InvalidArgument(
            f"prompt of {count} tokens, context of {self._context_tokens:,}: shorten the prompt, or raise "
            "llama.context_tokens in the model's model.toml",
            reason="CONTEXT_OVERFLOW",
        )


def load_template(source: str, vocab: Vocab) -> ChatTemplate | FailedPrecondition:
    """The template, or the error that a Chat call will get."""
    if not source:
        return FailedPrecondition("the model has no chat template; use Generate", reason="NO_CHAT_TEMPLATE")
    try:
        return ChatTemplate(source, bos=vocab.text(vocab.bos), eos=vocab.text(vocab.eos))
    except FailedPrecondition as error:
        return error


def tokenize_text(vocab: Vocab, call: TokenizeCall) -> tuple[int, ...]:
    """Answers a TokenizeCall; InvalidArgument for a text over the bound."""
    text = utf8(call.text, "the text")
    if len(text) > limits.prompt_bytes_max:
        raise InvalidArgument(f"a text of {len(text):,} bytes, at most {limits.prompt_bytes_max:,} are allowed")
    return tuple(vocab.tokenize(text, add_special=call.add_special, parse_special=call.special))
