"""Learning from better and worse: the DPO family, KTO, ORPO, SimPO, CPO, AlphaPO, TPO, rankings, and sums of them."""
