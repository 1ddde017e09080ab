"""What a language model says of itself."""

import pytest

from appliance.engine.llama.signature import language_signature

NOTHING = {"context_tokens": 128, "embeds": False, "chats": False}


@pytest.mark.parametrize(
    ("given", "reranks", "adapters"),
    [
        ({}, False, ()),
        ({"reranks": True}, True, ()),
        ({"adapters": ("de", "fr")}, False, ("de", "fr")),
    ],
)
def test_reranking_and_adapters(given, reranks, adapters):
    signature = language_signature(**NOTHING, **given)
    assert (signature.reranks, signature.adapters) == (reranks, adapters)
