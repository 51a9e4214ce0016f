"""Client keys at the pages: uploaded, revoked, and never a private one shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from gateway.core.keys import generate, private_pem, public_der, public_pem, thumbprint
from gateway.core.model import Role
from tests.vectors.credentials import private
from tests.vectors.served import Served
from tests.web.doors import door_serving
from tests.web.ui.visitors import XSS, Visit, at_visitor, is_escaped, text_of

PAGE = "configuration/keys"
BOTH = (Role.READ, Role.ADMIN)
KEY: Any = private("other", "ES256")
PEM = public_pem(KEY.public_key()).decode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("keys")) as opened:
        yield opened


async def kids(ann: Visit) -> list[str]:
    return [key.kid for key in (await ann.catalogue()).keys]


def test_a_key_is_pasted_or_sent_as_a_file_and_revoked(served: Served) -> None:
    async def story(ann: Visit) -> None:
        before = await kids(ann)
        sent = await ann.send(PAGE, PAGE, pem=PEM)
        named = thumbprint(KEY.public_key())
        assert f"{named} are trusted" in await ann.follow(sent)
        assert sorted([*before, named]) == await kids(ann)
        got = await ann.get(f"{PAGE}/public", kid=named)
        assert got.text == PEM
        revoked = await ann.send(f"{PAGE}/revoke", f"{PAGE}/revoke", query={"kid": named})
        assert f"{named} is revoked." in await ann.follow(revoked)
        assert before == await kids(ann)
        der = public_der(KEY.public_key())
        again = await ann.send(PAGE, PAGE, files={"file": ("k.der", der)}, kid="-k1", forwarder="1")
        assert again.status_code == 303
        [key] = [each for each in (await ann.catalogue()).keys if each.kid == "-k1"]
        assert (key.forwarder, key.alg) == (True, "ES256")

    at_visitor(served, story, *BOTH)


def test_a_private_key_is_refused_and_nowhere_to_be_seen(served: Served) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        secret = private_pem(generate("ES256")).decode()
        line = secret.splitlines()[1]
        with capture_logs() as logs:
            pasted = await ann.send(PAGE, PAGE, pem=secret)
            filed = await ann.send(PAGE, PAGE, files={"file": ("private.pem", secret.encode())})
        for answer in (pasted, filed):
            assert answer.status_code == 400
            assert "This is a private key" in text_of(answer)
            assert line not in answer.text
        assert line not in str(logs)
        assert await ann.catalogue() == before

    at_visitor(served, story, *BOTH)


@pytest.mark.parametrize(
    ("pem", "kid", "sentence"),
    [
        ("", "", "Choose a file"),
        ("nonsense", "", "Not a usable public key"),
        ("weak", "", "2048"),
        (PEM, "own-ES256", "already"),
        (PEM, "a b\u00e4", "visible ASCII"),
        (PEM, XSS + "\u00e4", "visible ASCII"),
    ],
)
def test_a_key_that_will_not_do_is_refused(
    served: Served, pem: str, kid: str, sentence: str
) -> None:
    async def story(ann: Visit) -> None:
        before = await ann.catalogue()
        small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that it is refused is the test
        weak = public_pem(small.public_key()).decode()
        answer = await ann.send(PAGE, PAGE, pem=weak if pem == "weak" else pem, kid=kid)
        assert answer.status_code == 400
        assert sentence in text_of(answer)
        assert is_escaped(answer.text)
        assert await ann.catalogue() == before

    at_visitor(served, story, *BOTH)


def test_a_kid_of_any_name_is_text(served: Served) -> None:
    async def story(ann: Visit) -> None:
        assert (await ann.send(PAGE, PAGE, pem=PEM, kid=XSS)).status_code == 303
        for page in (PAGE, f"{PAGE}/revoke"):
            assert is_escaped((await ann.get(page, kid=XSS)).text)
        gone = await ann.send(f"{PAGE}/revoke", f"{PAGE}/revoke", query={"kid": XSS})
        assert gone.status_code == 303
        assert (await ann.get(f"{PAGE}/revoke", kid=XSS)).status_code == 404
        again = await ann.post(f"{PAGE}/revoke", kid=XSS, xsrf=await ann.xsrf())
        assert again.status_code == 400
        assert is_escaped(again.text)

    at_visitor(served, story, *BOTH)


def test_roles_and_forms_of_others_are_held_to(served: Served) -> None:
    async def story(ann: Visit) -> None:
        page = await ann.page(PAGE)
        assert "own-ES256" in page
        assert "needs ROLE_ADMIN or ROLE_PRODUCER" in page
        xsrf, before = await ann.xsrf(), await kids(ann)
        assert (await ann.post(PAGE, pem=PEM, xsrf=xsrf)).status_code == 403
        assert (await ann.post(f"{PAGE}/revoke", kid="own-ES256", xsrf=xsrf)).status_code == 403
        producer = await ann.join("pat", Role.READ, Role.PRODUCER)
        sent = await producer.post(PAGE, pem=PEM, forwarder="1", xsrf=await producer.xsrf())
        assert sent.status_code in (403, 415)
        refused = await producer.send(PAGE, PAGE, pem=PEM, forwarder="1")
        assert refused.status_code == 403
        assert (await producer.post(f"{PAGE}/revoke", kid="own-ES256")).status_code == 403
        assert before == await kids(ann)
        assert (await producer.send(PAGE, PAGE, pem=PEM)).status_code == 303

    at_visitor(served, story)
