"""Random faults against the writer leave no untrue row and lose no finished sample; 200: benchmarks/chaos.py."""

from chaos import KINDS, Campaign


def test_random_faults(tmp_path):
    result = Campaign(tmp_path, seed=11).run(8)
    assert result.clean, result
    assert set(result.faults) == set(KINDS) and result.struck.total() == 8


def test_the_campaign_sees_what_it_looks_for(tmp_path):
    """An untrue row and a lost sample are counted: the counters are not blind."""
    campaign = Campaign(tmp_path, seed=1)
    assert len(campaign.finished()) == 24
    (campaign.out / "images/000003.png").write_bytes((campaign.out / "images/000004.png").read_bytes())
    assert len(campaign.finished()) == 23 and campaign.result.invalid_rows == 1
    before = campaign.finished()
    lines = (campaign.out / "metadata.jsonl").read_bytes().splitlines(True)
    (campaign.out / "metadata.jsonl").write_bytes(b"".join(lines[:-2]))
    assert len(before - campaign.finished()) == 2
    assert not campaign.result.clean
