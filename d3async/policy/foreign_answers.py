"""Answers that D3 did not write, such as a sign-in page: when everyone waits for D3, how long, and what is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

from d3async.policy.halt_and_exit_codes import Stop

IN_A_ROW = 3
"""Answers in a row that D3 did not write, after which no row is sent until D3 answers."""
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class ForeignAnswers:
    """What is known of who answers at D3's address. Times are seconds on one monotonic clock.

    *d3_answered* says whether D3 itself ever answered, *in_a_row* how many answers since were not D3's, *since* when
    the first of them came, *opens_at* when the next request may be tried, *page* what the last of them was.
    """

    d3_answered: bool = False
    in_a_row: int = 0
    since: float = 0.0
    opens_at: float = 0.0
    page: str = ""

    @property
    def settled(self) -> bool:
        """Whether it is D3 that answers, so that requests may be in flight together."""
        return self.d3_answered and self.in_a_row < IN_A_ROW

    @property
    def waiting(self) -> bool:
        """Whether no row may be sent until D3 answers."""
        return self.in_a_row >= IN_A_ROW

    def by_d3(self) -> ForeignAnswers:
        """After an answer that D3 wrote."""
        return self if self.d3_answered and not self.in_a_row else ForeignAnswers(d3_answered=True)

    def foreign(self, page: str, *, now: float, retry_after: float | None, dice: float) -> ForeignAnswers:
        """After an answer that D3 did not write; *page* describes it, *dice* is a random number in [0, 1).

        The next try is after the wait that it states, else after 1 s, doubled with each further try up to 60 s.
        """
        stated = now + (retry_after or 0.0)
        if self.waiting and now < self.opens_at:  # it was in flight when the wait began
            return replace(self, page=page, opens_at=max(self.opens_at, stated))
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** max(0, self.in_a_row + 1 - IN_A_ROW)) * (0.5 + 0.5 * dice)
        return replace(
            self,
            in_a_row=self.in_a_row + 1,
            since=self.since if self.in_a_row else now,
            opens_at=now + wait if retry_after is None else stated,
            page=page,
        )

    def stop_at_first(self) -> Stop | None:
        """Why the run stops where D3 has never answered: the address is wrong, or something else answers for D3."""
        if self.d3_answered or not self.in_a_row:
            return None
        return Stop("not_d3", f"not D3: {self.page}")

    def stop_waiting(self, now: float, max_outage: float) -> Stop | None:
        """Why D3 is not waited for until the next try: it will have been away for *max_outage* seconds by then.

        A D3 that has never answered is not waited for at all.
        """
        if not self.waiting or self.opens_at <= now:
            return None
        if self.d3_answered and self.opens_at - self.since < max_outage:
            return None
        allowed = f"; --max-outage allows {max_outage:.0f} s of it" if self.d3_answered else ""
        return Stop("not_d3", f"not D3: {self.page}{allowed}", self.opens_at - now)
