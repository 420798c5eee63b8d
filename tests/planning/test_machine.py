from fedcmp.planning.machine import available_memory, free_disk

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


def test_a_jobs_own_limit_lies_in_a_group_of_its_own(tmp_path):
    """As batch systems and systemd set them: below the mount, where /proc/self/cgroup says."""
    path, own = meminfo(tmp_path), tmp_path / "own"
    own.write_text("0::/slurm/job_7/step_0\n")
    for name, limit in (("slurm", "max"), ("slurm/job_7", "5000000"), ("slurm/job_7/step_0", "6000000")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("1000000")
        (folder / "memory.stat").write_text("inactive_file 0\n")
    assert available_memory(meminfo=path, cgroup=tmp_path, own=own) == 4_000_000
    own.write_text("12:cpu:/\n4:blkio,memory:/job\n")
    (tmp_path / "memory" / "job").mkdir(parents=True)
    (tmp_path / "memory" / "job" / "memory.limit_in_bytes").write_text("3000000")
    (tmp_path / "memory" / "job" / "memory.usage_in_bytes").write_text("1000000")
    (tmp_path / "memory" / "job" / "memory.stat").write_text("total_inactive_file 0\n")
    assert available_memory(meminfo=path, cgroup=tmp_path, own=own) == 2_000_000


def test_a_system_that_says_nothing(tmp_path):
    assert available_memory(meminfo=tmp_path / "none", cgroup=tmp_path) is None


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    assert free_disk(tmp_path / "a" / "b") > 0
