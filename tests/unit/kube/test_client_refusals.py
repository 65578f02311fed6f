"""What a refused request means: the object has changed, or the same request would be refused again."""

from pathlib import Path
from typing import Any

import pytest

from saffire.errors import ConflictError, DeniedError, RefusedError, SaffireError, TransientError, WebhookError
from testkit.scripted_api import TEST_FAILED, scripted_api, status

PATH = "/api/v1/namespaces/shop/pods/web-0"
INVALID = 'Pod "web-0" is invalid: spec.containers[0].image: Required value'
CAUSES = {"causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec"}]}
NOT_CALLED = (
    'Internal error occurred: failed calling webhook "images.example": failed to call webhook: Post "https://x"'
)
WEBHOOK = 'admission webhook "images.example" denied the request: not from this registry'


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        pytest.param(ConflictError, TEST_FAILED, id="a-test-of-the-patch-failed"),
        pytest.param(RefusedError, status(422, INVALID, details=CAUSES), id="the-patched-object-is-invalid"),
        pytest.param(
            RefusedError, status(422, TEST_FAILED[1]["message"], details=CAUSES), id="another-422-with-causes"
        ),
        pytest.param(RefusedError, status(422, "the server could not carry it out"), id="another-422"),
        pytest.param(DeniedError, status(422, WEBHOOK), id="a-webhook-denies-it-with-422"),
        pytest.param(ConflictError, status(409, "modified"), id="a-conflict"),
        pytest.param(ConflictError, status(404, "gone", details={"name": "web-0"}), id="the-object-is-gone"),
        pytest.param(DeniedError, status(403, "may not"), id="forbidden"),
        pytest.param(RefusedError, status(400, "bad"), id="another-refusal"),
        pytest.param(WebhookError, status(500, NOT_CALLED), id="a-webhook-cannot-be-called"),
        pytest.param(TransientError, status(500, "Internal error occurred: leader changed"), id="another-500"),
    ],
)
async def test_only_a_patch_that_no_longer_fits_may_fit_again(
    tmp_path: Path, expected: type[SaffireError], answer: tuple[int, Any]
) -> None:
    """After a conflict, Saffire reads the object and makes the patch anew. After a refusal, it tells the operator."""
    async with scripted_api(tmp_path, {f"PATCH {PATH}": [answer]}) as server:
        with pytest.raises(SaffireError) as raised:
            await server.patch(PATH, ({"op": "test", "path": "/metadata/uid", "value": "pod-uid"},))
    assert expected is type(raised.value)
