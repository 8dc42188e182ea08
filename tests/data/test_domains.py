import pytest
from anomalib.data import BMAD, MVTecAD

from anomalib_zsad.data import AllCategories, MVTec, VisA
from anomalib_zsad.data.domains import domain_of


@pytest.mark.parametrize("name", ["ColonDB", "CVC-ClinicDB", "Kvasir", "HeadCT", "Br35H", "BMAD", "TN3K"])
def test_medical_datasets(name):
    assert domain_of(name) == "medical"


@pytest.mark.parametrize("datamodule", [None, "MVTecAD", "something else", MVTecAD(), MVTec(), VisA()])
def test_all_others_are_industrial(datamodule):
    assert domain_of(datamodule) == "industrial"


def test_the_dataset_that_is_tested_on_counts():
    assert domain_of(BMAD()) == "medical"
    assert domain_of(AllCategories(BMAD())) == "medical"
    assert domain_of(VisA(target=BMAD())) == "medical"
