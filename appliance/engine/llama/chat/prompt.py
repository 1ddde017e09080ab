"""From a GenerateCall to the token ids of its prompt, every bound checked before anything is computed."""

from collections.abc import Sequence

from appliance import limits
from appliance.calls import ChatMessage, GenerateCall, TokenizeCall
from appliance.engine.llama.chat.template import ChatTemplate
from appliance.engine.llama.vocab import Vocab, new_mark, utf8
from appliance.errors import ApplianceError, FailedPrecondition, InvalidArgument

ROLES = ("system", "user", "assistant", "tool")


class PromptBuilder:
    """Turns prompts and conversations into tokens for one model.

    ``template`` is the model's chat template, or the error that says why there is none.
    """

    def __init__(self, vocab: Vocab, template: ChatTemplate | ApplianceError, context_tokens: int) -> None:
        self._vocab = vocab
        self._template = template
        self._context_tokens = context_tokens

    @property
    def chats(self) -> bool:
        """Whether messages can be answered."""
        return isinstance(self._template, ChatTemplate)

    def build(self, call: GenerateCall) -> list[int]:
        """At least one and at most ``context_tokens`` token ids; InvalidArgument or FailedPrecondition otherwise."""
        if (call.prompt is None) == (call.messages is None):
            raise InvalidArgument("exactly one of prompt and messages must be given")
        tokens = self._continue(call.prompt) if call.prompt is not None else self._chat(call.messages or ())
        if not tokens:
            raise InvalidArgument("the prompt is empty", reason="PROMPT_EMPTY")
        if len(tokens) > self._context_tokens:
            raise self._overflow(f"{len(tokens):,}")
        return tokens

    def _continue(self, prompt: str) -> list[int]:
        text = utf8(prompt, "the prompt")
        self._check_size(text, "the prompt")
        # Whoever sends a bare prompt writes the control tokens himself, so they are read as such.
        return self._vocab.tokenize(text, add_special=True, parse_special=True)

    def _chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        self._check_messages(messages)
        template = self._template
        if isinstance(template, ApplianceError):
            raise type(template)(template.message, reason=template.reason)
        mark = new_mark()
        marked = [ChatMessage(m.role, self._vocab.mark_special(m.content, mark)) for m in messages]
        rendered = template.render(marked)
        self._check_size(utf8(rendered.replace(mark, ""), "the rendered prompt"), "the rendered prompt")
        # Most templates write the token for the beginning of the text themselves; it must not stand there twice.
        begins = bool(rendered) and self._vocab.bos >= 0 and rendered.startswith(self._vocab.text(self._vocab.bos))
        return self._vocab.tokenize_marked(rendered, mark, add_special=not begins)

    def _check_messages(self, messages: Sequence[ChatMessage]) -> None:
        if not messages:
            raise InvalidArgument("messages is empty: at least one is needed", reason="MESSAGES_EMPTY")
        if len(messages) > limits.chat_messages_max:
            raise InvalidArgument(f"{len(messages):,} messages, at most {limits.chat_messages_max:,} are allowed")
        total = 0
        for number, message in enumerate(messages):
            if message.role not in ROLES:
                raise InvalidArgument(
                    f'message {number} has the role "{message.role[:32]}", known are {", ".join(ROLES)}',
                    reason="ROLE_UNKNOWN",
                )
            total += len(utf8(message.content, f"message {number}"))
        if total > limits.prompt_bytes_max:
            raise InvalidArgument(f"messages of {total:,} bytes, at most {limits.prompt_bytes_max:,} are allowed")

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
