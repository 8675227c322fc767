"""The table that is kept up to date by a token at a time is the one that is made anew."""

import torch

from burnish.sampling.token_history import TokenHistory


def test_rows_begin_grow_move_and_begin_anew():
    generator = torch.Generator().manual_seed(0)
    seen, rows = TokenHistory(5, 40, torch.device("cpu")), []

    def random(count: int) -> list[int]:
        return torch.randint(40, (count,), generator=generator).tolist()

    def begin() -> None:
        rows.append(random(6))
        seen.begin(len(rows) - 1, torch.tensor(rows[-1]))

    def expected() -> torch.Tensor:
        table = torch.zeros(len(rows), 40, dtype=torch.bool)
        for place, tokens in enumerate(rows):
            table[place, tokens] = True
        return table

    for _ in range(4):
        begin()
    for turn in range(20):
        for start, stop in ((0, 2), (2, len(rows))):  # rows are written in chunks
            tokens = random(stop - start)
            for place, token in zip(range(start, stop), tokens, strict=True):
                rows[place].append(token)
            seen.add(start, torch.tensor(tokens))
        assert seen.of(slice(0, len(rows))).equal(expected())
        if turn % 3 == 2:  # the last takes the place of one that leaves, and another begins
            rows[1] = rows.pop()
            seen.move(len(rows), 1)
            begin()
            assert seen.of(slice(0, len(rows))).equal(expected())
