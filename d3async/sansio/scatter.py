"""Scattered refusals: a server without burst refuses what arrives too close together, however slowly one goes."""

_FUTILE = 0.9
"""Share of the rate that was accepted although a refusal came: cutting the rate was not what it asked for."""
_WITHIN = 2.0
_ENOUGH = 8
_SHARE_OF_ONE = 1 / 64
_TOO_MANY, _FEW = 0.07, 0.04
_SLOWER, _FASTER = 0.995, 1.001


class Scatter:
    """Notices that cuts do not help, and then keeps the share of refusals small instead of asking for none.

    A limit on the number of requests stops refusing once the rate is cut below what it accepted. Where refusals go on,
    cut after cut, while nearly everything is accepted, the spacing is at fault, and the network decides on that.
    """

    def __init__(self) -> None:
        self.on = False
        self._futile = 0
        self._event_at = -1e9
        self._share = 0.0

    def event(self, now: float, rate: float, accepted: int) -> None:
        """Note a refusal at *rate* that begins an event, *accepted* being the good answers of the last second."""
        if accepted < _FUTILE / 2 * rate:
            self.on, self._futile = False, 0
        elif now - self._event_at > _WITHIN or accepted < _FUTILE * rate:
            self._futile = max(self._futile - 1, 0)
        else:
            self._futile += 1
            if self._futile >= _ENOUGH and not self.on:
                self.on, self._share = True, _FEW
        self._event_at = now

    def follow(self, rate: float, *, refused: bool) -> float:
        """Return the next rate after one more answer at *rate*."""
        self._share += (refused - self._share) * _SHARE_OF_ONE
        if self._share > _TOO_MANY:
            return rate * _SLOWER
        return rate * _FASTER if self._share < _FEW else rate
