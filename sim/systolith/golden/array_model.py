"""The systolic array cycle by cycle: every register of the cells, both feeds, both sets of weights.

The other golden modules know what sums come out; this one also knows when. It holds the gateware to
its timing, and it is the place to try a change of the cell.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bits = NDArray[np.bool_]


class ArrayModel:
    """Array of `rows` by `cols` cells.

    All registers start at zero. One call of :meth:`step` is one clock cycle.

    Parameters
    ----------
    rows, cols : int
        Cells.
    feeds : int
        Column feeds; row r listens to feed `min(r // G, feeds - 1)` with `G = rows // feeds`.

    Attributes
    ----------
    x, q, p : int64[rows, cols]
        Activation, product and partial sum of the cells.
    active, following : int64[rows, cols]
        Weights in use and weights that are being shifted in.
    latency : int
        Cycles from a position to its sum in column 0.
    """

    def __init__(self, rows: int, cols: int, feeds: int) -> None:
        self.rows, self.cols, self.feeds = rows, cols, feeds
        self.latency = rows + 2
        group = rows // feeds
        self._feed_of_row = np.minimum(np.arange(rows) // group, feeds - 1)
        self._offset = np.arange(rows) - self._feed_of_row * group
        self.x, self.q, self.p, self.active, self.following, self._right = (
            np.zeros((rows, cols), np.int64) for _ in range(6)
        )
        self._joined = np.zeros(rows, np.bool_)
        depth = rows + cols + rows
        lanes = max(rows, cols)
        # Entry 0 of a history is the present cycle, entry n what was there n cycles ago.
        self._feed = np.zeros((depth, feeds, lanes), np.int64)
        self._row = np.zeros((depth, cols), np.int64)
        self._joins = np.zeros((depth, rows), np.bool_)
        self._tokens = {
            name: np.zeros(depth, np.bool_) for name in ("first", "depthwise", "switch")
        }
        self._r, self._c = np.ogrid[:rows, :cols]

    def step(
        self,
        feed: Ints,
        *,
        first: bool = False,
        depthwise: bool = False,
        switch: bool = False,
        w_en: bool = False,
        w_first: bool = False,
        w_row: Ints | None = None,
    ) -> Ints:
        """Advance by one clock edge.

        Parameters
        ----------
        feed : int64[feeds, max(rows, cols)]
            Vectors that are fed in this cycle.
        first, depthwise, switch : bool
            Tokens of this position: first of a step, mode, first with a new tile.
        w_en, w_first : bool
            A row of weights is shifted in; it is the first of its tile, the array's last row.
        w_row : int64[cols], optional
            The row of weights.

        Returns
        -------
        int64[cols]
            Sums that the array shows in this cycle, before the edge.
        """
        shown: Ints = self.p[-1].copy()
        for history in (self._feed, self._row, self._joins, *self._tokens.values()):
            history[1:] = history[:-1]
        self._feed[0] = feed
        self._row[0] = 0 if w_row is None else w_row
        for name, value in (("first", first), ("depthwise", depthwise), ("switch", switch)):
            self._tokens[name][0] = value
        self._joins[0] = self._join(w_first) if w_en else False
        if w_en:
            self._joined = self._joins[0].copy()
        self._clock()
        return shown

    def _join(self, w_first: bool) -> Bits:
        """Return which rows of column 0 take part in the shift: one more with every row."""
        joins = np.zeros(self.rows, np.bool_)
        joins[0] = True
        if not w_first:
            joins[1:] = self._joined[:-1]
        return joins

    def _clock(self) -> None:
        r, c = self._r, self._c
        left = np.concatenate(
            [self._feed[np.arange(self.rows), 0, np.arange(self.rows)][:, None], self._right], 1
        )[:, :-1]
        operand = np.where(self._tokens["depthwise"][r + c], self._broadcast(), left)
        above = np.concatenate([np.zeros((1, self.cols), np.int64), self.p[:-1]])
        enter = np.concatenate([self._row[c, c], self.following[:-1]])
        self.p, self.q, self.x, self._right = above + self.q, self.x * self.active, operand, left
        self.active = np.where(self._tokens["switch"][r + c], self.following, self.active)
        self.following = np.where(self._joins[c, r], enter, self.following)

    def _broadcast(self) -> Ints:
        """Return what the cells see of their feeds; a position of a later step is zero."""
        feed = self._feed_of_row[:, None]
        delay = self._c + feed * (self.rows // self.feeds)
        value = self._feed[delay, feed, self._c]
        begun = np.concatenate([[0], np.cumsum(self._tokens["first"])])
        later: Ints = begun[delay + self._offset[:, None]] - begun[delay]
        return np.where(later > 0, 0, value)
