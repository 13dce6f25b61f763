"""Files of tenants are read by the mapping that each tenant's profile keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fleet.ground import Ran, fleet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.database import Postgres


def test_each_file_is_read_by_the_mapping_of_its_tenant(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    urls = dict.fromkeys(("a", "b"), "http://127.0.0.1:9/x")
    with fleet(tmp_path / "fleet", postgres.database(), urls, typed=typed) as found:
        with (found.folder / "config.toml").open("a") as config:
            config.write('[profiles.a.files]\nmap = ["Wer=assignee"]\nset = ["Site=Rome"]\n')
        mapped, plain = found.file("a", 2), found.file("b", 1)
        mapped.write_text(mapped.read_text().replace("assignee", "Wer", 1))

        told = found.run("submit", mapped, plain, "--processes", 1)

        sites = found.ask("select site, count(*) from d3async_row group by 1 order by 1")

    assert told.code == 0, told.err
    assert sites == [("Operations", 1), ("Rome", 2)]
    assert '  mapping of profile a: Wer = assignee; Site is "Rome" where empty\n' in told.err
    assert "mapping of profile b" not in told.err
