"""From a RerankCall to the token ids of its pairs: the query and a document, in the form the model was trained on.

Most rerankers are cross-encoders of BERT's kind: [CLS] query [SEP] document [SEP], in their own tokens. Others are
language models whose file brings a template named "rerank", with {query} and {document} in it. Both as llama.cpp's
server has them (tools/server, format_prompt_rerank), but control tokens in a query or document stay text.
"""

import re

from appliance import limits
from appliance.calls import RerankCall
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.engine.llama.vocab import new_mark, utf8
from appliance.errors import InvalidArgument

_PLACES = re.compile(r"\{(query|document)\}")


class RerankInputs:
    """Builds the inputs of a model that reranks, of up to ``tokens_max`` tokens each."""

    def __init__(self, model: LlamaModel, tokens_max: int) -> None:
        self._vocab = model.vocab
        self._tokens_max = tokens_max
        self._template = (C.llama_model_chat_template(model.handle, b"rerank") or b"").decode(errors="replace")
        self._before, self._between, self._after = _separators(C.llama_model_get_vocab(model.handle))

    def build(self, call: RerankCall) -> list[list[int]]:
        """Token ids for each document; InvalidArgument with the document's number and the bound."""
        if not 0 < len(call.documents) <= limits.rerank_documents_max:
            raise InvalidArgument(
                f"{len(call.documents):,} documents to rerank, allowed: 1 to {limits.rerank_documents_max}"
            )
        query = utf8(call.query, "the query")
        documents = [utf8(text, f"document {number}") for number, text in enumerate(call.documents)]
        self._check_bytes(query, documents)
        if self._template:
            return [self._from_template(call.query, text, number) for number, text in enumerate(call.documents)]
        before = [*self._before, *self._tokenize(query), *self._between]
        if len(before) + len(self._after) >= self._tokens_max:
            raise InvalidArgument(
                f"the query takes {len(before):,} tokens, query and document together at most {self._tokens_max:,}: "
                "shorten it",
                reason="CONTEXT_OVERFLOW",
            )
        return [
            self._checked([*before, *self._tokenize(text), *self._after], number)
            for number, text in enumerate(documents)
        ]

    def _check_bytes(self, query: bytes, documents: list[bytes]) -> None:
        if not query.strip():
            raise InvalidArgument("the query is empty", reason="PROMPT_EMPTY")
        # The query is read again with every document.
        total = sum(len(query) + len(text) for text in documents)
        if total > limits.prompt_bytes_max:
            raise InvalidArgument(
                f"documents of {total:,} bytes, the query counted with each, at most {limits.prompt_bytes_max:,} are "
                "allowed"
            )
        least_query = self._vocab.tokens_at_least(query)
        for number, text in enumerate(documents):
            if not text.strip():
                raise InvalidArgument(f"document {number} is empty: leave it out", reason="PROMPT_EMPTY")
            # Tokenizing megabytes takes seconds of the loop; what cannot fit in any case is refused before.
            least = least_query + self._vocab.tokens_at_least(text)
            if least > self._tokens_max:
                raise self._overflow(number, least)

    def _tokenize(self, text: bytes) -> list[int]:
        return self._vocab.tokenize(text, add_special=False, parse_special=False)

    def _from_template(self, query: str, document: str, number: int) -> list[int]:
        mark = new_mark()
        texts = {"query": self._vocab.mark_special(query, mark), "document": self._vocab.mark_special(document, mark)}
        # One pass: "{document}" in a query is the query's own text.
        prompt = _PLACES.sub(lambda place: texts[place[1]], self._template)
        return self._checked(self._vocab.tokenize_marked(prompt, mark, add_special=False), number)

    def _checked(self, tokens: list[int], number: int) -> list[int]:
        if len(tokens) > self._tokens_max:
            raise self._overflow(number, len(tokens))
        return tokens

    def _overflow(self, number: int, count: int) -> InvalidArgument:
        return InvalidArgument(
            f"document {number} has with the query {count:,} tokens or more, at most {self._tokens_max:,} are "
            "allowed: split it",
            reason="CONTEXT_OVERFLOW",
        )


def _separators(vocab: object) -> tuple[list[int], list[int], list[int]]:
    """What stands before the query, between it and the document, and at the end, by the model file's own flags."""
    sep = C.llama_vocab_sep(vocab)
    eos = C.llama_vocab_eos(vocab)
    if eos < 0:
        eos = sep
    closes = C.llama_vocab_get_add_eos(vocab)
    before = [C.llama_vocab_bos(vocab)] if C.llama_vocab_get_add_bos(vocab) else []
    between = [eos] if closes else []
    if C.llama_vocab_get_add_sep(vocab):
        between.append(sep)
    # Older files with WordPiece say nothing of an end, and llama.cpp closes every single text with [SEP] all the same.
    wordpiece = C.llama_vocab_type(vocab) == C.LLAMA_VOCAB_TYPE_WPM
    after = [eos] if closes else [sep] if wordpiece else []
    return tuple([token for token in part if token >= 0] for part in (before, between, after))  # type: ignore[return-value]  # three parts in, three out
