"""What a site refuses is said word for word to both sides; what goes wrong in its own work stays at the site."""

import errno

import pytest

from fedcmp.deployment.refusals import Declined, refusal
from fedcmp.errors import UserError
from fedcmp.wire.naming import MessageError

PATH = "/data/hospital/patient-17.png"


def told(error):
    lines = []
    return refusal(error, lines.append), lines


def test_what_the_site_does_not_accept_is_said_as_it_is_and_for_good():
    found, lines = told(Declined("method fedcmp: accept.methods has fedavg only"))
    assert (found.reason, found.accepted) == ("method fedcmp: accept.methods has fedavg only", False)
    assert lines == ["refused: method fedcmp: accept.methods has fedavg only"]


def test_a_malformed_request_is_refused_for_good():
    found, lines = told(MessageError("patience: Input should be a valid number"))
    assert (found.reason, found.accepted) == ("malformed request: patience: Input should be a valid number", False)
    assert lines == ["refused: malformed request: patience: Input should be a valid number"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError(f"{PATH}: missing"), "the site could not do it; its own log says why"),
        (MemoryError(PATH), "the site is short of memory, disk or open files; its own log says more"),
        (OSError(errno.ENOSPC, "full", PATH), "the site is short of memory, disk or open files; its own log says more"),
        (KeyError(PATH), "the site's trainer failed (KeyError); its own log says more"),
        (ValueError(PATH), "the site's trainer failed (ValueError); its own log says more"),
    ],
)
def test_what_goes_wrong_at_the_site_may_be_tried_again_and_names_nothing_of_its_own(error, reason, capsys):
    found, (line,) = told(error)
    assert (found.reason, found.accepted) == (reason, True)
    assert PATH not in found.reason
    assert PATH in line or PATH in capsys.readouterr().err or isinstance(error, MemoryError)


def test_a_refusal_fits_its_message_however_long_the_error_is():
    for error in (Declined("x" * 10_000), MessageError("x" * 10_000), UserError("x" * 10_000)):
        header, tensors = told(error)[0].to_tensors()
        assert len(header["reason"]) < 4000
        assert not tensors
