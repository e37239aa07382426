"""What a model is measured on shares neither family nor data set with what it was fitted to."""

from __future__ import annotations

from dataclasses import replace

from cohorts import made_up_sweep

from lightning_nndyn.evaluation.cohort.held_out import FAMILY_GROUPS, part_of_sweep


def test_families_that_are_alike_and_the_data_set_are_left_out() -> None:
    sweeps = [
        made_up_sweep(0, family, dataset)
        for family in ("resnet", "preactivation_resnet", "mlp", "vgg", "vit")
        for dataset in ("digits", "cifar10")
    ]
    parts = dict.fromkeys(map(part_of_sweep, sweeps))
    assert len(parts) == 8
    for part in parts:
        unseen, fitted = part.unseen(sweeps), part.fitted(sweeps)
        assert unseen and fitted and part.dataset in part.name
        for sweep in unseen:
            group = next(group for group in FAMILY_GROUPS if sweep.family in group)
            assert not [one for one in fitted if one.family in group or one.dataset == sweep.dataset]
    assert sum(len(part.unseen(sweeps)) for part in parts) == len(sweeps)


def test_a_grid_is_measured_by_a_model_that_has_seen_no_grid() -> None:
    grids = [
        replace(made_up_sweep(0, family, dataset), is_grid=True)
        for family, dataset in (("resnet", "cifar10"), ("lenet", "digits"))
    ]
    swept = [made_up_sweep(1, "lstm", "parity"), made_up_sweep(2, "resnet", "parity")]
    part = part_of_sweep(grids[0])
    assert part.fitted([*grids, *swept]) == swept[:1]
    assert part.unseen([*grids, *swept]) == grids[:1] and part.name.startswith("grids of ")
    assert part_of_sweep(swept[0]).fitted([*grids, *swept]) == [*grids, swept[1]][:2]


def test_random_networks_are_cnns_and_mlps() -> None:
    zoo = replace(made_up_sweep(0, "zoo", "digits"), is_grid=True)
    others = [made_up_sweep(1, family, "parity") for family in ("mlp", "mixer", "plain_cnn", "vit")]
    assert part_of_sweep(zoo).fitted([zoo, *others]) == others[-1:]
    cifar10 = made_up_sweep(2, "plain_cnn", "cifar10")
    assert part_of_sweep(cifar10).fitted([zoo, *others]) == [others[0], others[1], others[3]]
    assert zoo in part_of_sweep(made_up_sweep(2, "vit", "cifar10")).fitted([zoo, *others])
