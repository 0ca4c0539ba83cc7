"""Restatement notices: whoever uses a closed figure hears that it changed, at least once."""

from collections.abc import Callable

from etl_assets.automation.alerts import alert
from etl_resources.failpoints import failpoint
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import alone
from etl_resources.ledger.notices import record_told, untold
from etl_resources.settings import Settings

KIND = "restatement"
NOTICES_MAX = 50
"""Sent at once; the next tick goes on."""


def send_restatements(settings: Settings, ledger: Ledger, log: Callable[[str], None]) -> int:
    """Send what nobody was told of yet; how many were taken. One process sends at a time.

    What the webhook didn't take is sent again by the next call: every tick of the reconcile sensor is one.
    """
    sent = 0
    with alone(ledger, "restatements") as mine:
        for restatement in untold(ledger.connection)[:NOTICES_MAX] if mine else ():
            if not alert(settings, KIND, [str(restatement)], restatement.as_json(), log):
                break
            failpoint("notice.sent", restatement.asset)
            record_told(ledger.connection, restatement)
            sent += 1
    return sent
