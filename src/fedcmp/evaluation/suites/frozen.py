"""sha256 of every suite's items and pictures (SuiteItems.digest): a change here makes another suite, say so."""

FROZEN: dict[tuple[str, str], str] = {
    ("mm-vet-world", "test"): "7c6d0af7f38496d88f57a3dfd8e2ac674bedcd27818abccd04d2e7fc243293c2",
    ("mm-vet-world", "validation"): "66e6f009db72389061530ba6a7be1fa7704957e61906c74270599a3fc94f4c30",
    ("mmbench-world", "test"): "fe270171bd2a1ad04fd0eb8ee75f7c0496604279b80da459e4a36832c64bfc00",
    ("mmbench-world", "validation"): "a73adec51335ad4c2fc45be499df7b05715d9d22cf8b44175ce10abe263e9c13",
    ("seed-world", "test"): "ae425bf5238fc22af2c96b36002287cd7ca8942e757fd1c2b4de002a227443ec",
    ("seed-world", "validation"): "f63332be6c3d4440ea11aa32a075b325c362ed08e7184b4cded3eeab4e954098",
    ("llava-bench-world", "test"): "a3b3733113de751c3875409a4bfbd45ddb7f7816d8db1709d7bd5b774f606faa",
    ("llava-bench-world", "validation"): "6563762aa051032fb153abe7c1f6fccf8f5018b2473f98475c168332f8d62f1f",
    ("pope-world", "test"): "38554d55519cfff8db9ed21849f28ab47f039205e41fae677a9b7d5e34c14abe",
    ("pope-world", "validation"): "7497bda0965d39fa5712fdc927682d9fe41626f0df6d97c861276d61c87e9e56",
    ("mme-world", "test"): "2d758c2700290c298c071ecd777f74d6e1fa363d5044fd931e21c0a9c502d5ca",
    ("mme-world", "validation"): "719005ba175779196d54e9e2713b8ba2a7818f580ee71152ad77bf77a8398480",
    ("mmvp-world", "test"): "4d7024718ed40c44239a765e6a04a3e5a4a2051ccce917143ba5a7a14ecd62c3",
    ("mmvp-world", "validation"): "bb1afb1f1602c6c956fd829d89c3aaa379c549c224c3d2a38c73127fe2964bd8",
}
