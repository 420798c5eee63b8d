from fedcmp.simulation.machine import available_memory, free_disk

MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    9000 kB\n"


def meminfo(folder):
    path = folder / "meminfo"
    path.write_text(MEMINFO)
    return path


def test_the_systems_memory_where_no_container_limits_it(tmp_path):
    path = meminfo(tmp_path)
    assert available_memory(meminfo=path, cgroup=tmp_path / "none") == 9_000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(meminfo=path, cgroup=tmp_path) == 9_000 * 1024


def test_a_containers_limit_less_what_it_uses(tmp_path):
    path = meminfo(tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000\ninactive_file 400000\n")
    assert available_memory(meminfo=path, cgroup=tmp_path) == 5_000_000 - 3_000_000 + 400_000


def test_version_1_of_control_groups(tmp_path):
    path, folder = meminfo(tmp_path), tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("5000000\n")
    (folder / "memory.usage_in_bytes").write_text("1000000\n")
    (folder / "memory.stat").write_text("total_inactive_file 100000\n")
    assert available_memory(meminfo=path, cgroup=tmp_path) == 4_100_000
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert available_memory(meminfo=path, cgroup=tmp_path) == 9_000 * 1024


def test_a_system_that_says_nothing(tmp_path):
    assert available_memory(meminfo=tmp_path / "none", cgroup=tmp_path) is None


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    assert free_disk(tmp_path / "a" / "b") > 0
