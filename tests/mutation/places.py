"""Where the Python that decides is."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
PLUGINS = HERE.parents[1] / "plugins"
# In the name of a mutant: between what stands there and what stands in its place.
SIGN = " => "

# The modules, and their functions where not all of them decide.
MODULES: dict[str, frozenset[str]] = {
    "policy": frozenset(),
    "cycle.dispatch": frozenset({"contacts", "outcome", "send_group", "dispatch"}),
    "cycle.preflight": frozenset(),
    "cycle.reconcile": frozenset(),
    "cycle.stops": frozenset(),
    "channels.twilio_codes": frozenset(),
    "channels.telephony": frozenset(
        {"HttpxClient.request", "_retry_after", "_until", "Twilio.status", "_asked", "_accepted"}
    ),
    "channels.mail": frozenset(
        {"refusal", "_before_the_message", "_hand_over", "_recipient", "Mailer.send", "Mailer._envelope"}
    ),
}


def module_path(module: str) -> Path:
    return Path("reminders", *module.split(".")).with_suffix(".py")
