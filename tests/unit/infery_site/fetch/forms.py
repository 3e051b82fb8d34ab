"""Ways to name what must not be reached. `{port}` is a port on which somebody listens."""

from __future__ import annotations

PRIVATE_V4 = [
    *("0.0.0.0", "0.0.0.1", "0.255.255.255", "10.0.0.0", "10.0.0.1", "10.1.2.3", "10.255.255.255"),  # noqa: S104
    *("100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.0", "127.0.0.1", "127.0.1.1", "127.1.2.3"),
    *("127.255.255.254", "169.254.0.1", "169.254.169.254", "169.254.170.2", "169.254.255.255", "172.16.0.1", "172.17.0.1"),
    *("172.31.255.254", "192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
    *("192.168.1.254", "192.168.255.255", "198.18.0.1", "198.19.255.254", "198.51.100.7", "203.0.113.9", "224.0.0.1"),
    *("224.0.0.251", "232.1.1.1", "239.255.255.250", "240.0.0.1", "250.1.2.3", "255.255.255.255"),
]
PRIVATE_V6 = [
    *("::", "::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fdff::1", "fe80::1", "fe80::a9fe:a9fe", "febf::1"),
    *("fec0::1", "ff02::1", "ff0e::1", "100::1", "2001:db8::1", "2001::1", "2001:10::1", "3fff::1", "5f00::1"),
]
"""S1: 60 literals of loopback, private, shared, link-local, metadata, documentation and multicast addresses."""

TRANSLATED = [
    *("::ffff:7f00:1", "::ffff:a00:1", "::ffff:a9fe:a9fe", "::ffff:6464:64c8", "::ffff:0:7f00:1", "::ffff:0:a9fe:a9fe"),
    *("::7f00:1", "::a00:1", "::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808"),
    *("64:ff9b:1::a00:1", "64:ff9b:1:fffe::7f00:1", "2002:7f00:1::", "2002:7f00:1::1", "2002:a9fe:a9fe::1"),
    *("2002:a00:1::1", "2002:808:808::1", "2001:0:7f00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    *("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::169.254.169.254", "fe80::1%25eth0", "fe80::1%eth0", "::1%25lo"),
    *("2606:4700::1111%25eth0", "::ffff:0:127.0.0.1", "0:0:0:0:0:ffff:7f00:1", "v1.fe80::1", "v6.::1"),
]
"""S3: 32 forms of mapped, compatible, NAT64, 6to4, Teredo and SIIT addresses, and zones."""

SPELLED = [
    *("0", "1", "127.1", "127.0.1", "10.1", "2130706433", "2852039166", "3232235521", "00000000002130706433", "017700000001"),
    *("0177.0.0.1", "0177.0.0.01", "127.0.0.01", "127.000.000.001", "0x7f000001", "0x7F.0.0.1", "0x7f.1", "0x7f.0x0.0x0.0x1"),
    *("0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "0x", "0x.0x.0x.0x", "127.0.0.1.", "169.254.169.254."),
    *(
        "127.0.0.1..",
        "１２７.0.0.1",
        "127。0。0。1",
        "127．0．0．1",
        "①②⑦.⓪.⓪.①",
        "１６９．２５４．１６９．２５４",
        "127%2e0%2e0%2e1",
    ),
    *("%31%32%37.0.0.1", "127.0.0.1%00", "127.0.0.256", "256.256.256.256", "1.2.3.4.5", "127.0.0.1.example.1", "１２７｡1"),
    *("4294967297", "0.0.0.0.0", "[127.0.0.1]", "[::1", "::1]", "[]", "[::1]]", "[[::1]]", "[::1].example"),
]
"""S2: decimal, octal, hexadecimal, short, dotted, fullwidth, circled and escaped spellings, and broken brackets."""

LITERALS = [*PRIVATE_V4, *(f"[{address}]" for address in PRIVATE_V6)]
FORMS = [f"http://{host}:{{port}}/a.png" for host in (*LITERALS, *(f"[{address}]" for address in TRANSLATED), *SPELLED)]

SCHEMES = [
    *("file:///etc/passwd", "file://localhost/etc/passwd", "ftp://{host}/a.png", "ftps://{host}/a.png", "sftp://{host}/a"),
    *("gopher://{host}/_GET", "dict://{host}/d:a", "ldap://{host}/a", "ldaps://{host}/a", "tftp://{host}/a", "ws://{host}/a"),
    *("wss://{host}/a", "jar:http://{host}/a!/b", "unix:/var/run/docker.sock", "http+unix://%2Fvar%2Frun/a", "data:,a"),
    *("data:image/png;base64,AAAA", "javascript:alert(1)", "vbscript:a", "mailto:a@b", "blob:http://{host}/a", "netdoc:///a"),
    *("view-source:http://{host}/a", "about:blank", "smb://{host}/a", "telnet://{host}", "httpx://{host}/a", "http:/{host}/a"),
    *("http:{host}/a.png", "//{host}/a.png", "/a.png", "{host}/a.png", "", "http", "http:", "http://", "http:///a.png"),
]
"""S7: what is no http or https URL."""

TWO_READINGS = [
    *(
        "http://good.example@{host}/",
        "http://{host}@good.example/",
        "http://a:b@{host}/",
        "http://@{host}/",
        "http://:@{host}/",
    ),
    *("http://good.example@@{host}/", "http://a@b@{host}/", "http://good.example%40{host}/", "http://good.example\\@{host}/"),
    *("http://{host}\\@good.example/", "http:\\\\{host}\\a", "http://good.example\\a.png", "http://good.example/\\..\\a"),
    *("http://good\t.example/", "http://good.example/a\nb", "http://good.example/\r\nHost: evil", "ht\ntp://{host}/"),
    *(
        " http://{host}/",
        "http://{host}/ ",
        "\thttp://{host}/",
        "http://{host}/a b",
        "http:// {host}/",
        "http://good .example/",
    ),
    *("http://good.example:80:80/", "http://good.example:/", "http://good.example:0/", "http://good.example:99999/"),
    *("http://good.example:080/", "http://good.example:+80/", "http://good.example:-80/", "http://good.example: 80/"),
    *("http://good.example:８０/", "http://good.example:22/", "http://good.example:8080/", "http://good.example:6379/"),
    *("http://good..example/", "http://.good.example/", "http://-good.example/", "http://good-.example/", "http://./"),
    *("http://good.example\x00.evil/", "http://good.example/\x00", "http://good.example\x7f/", "http://good.example/\x85"),
    *("http://good.example／evil/", "http://good.example＠evil/", "http://good.example：80/", "http://good.example＃/"),
    *("http://good.example？a/", "http://good℀.example/", "http://good.example\u2028/", "http://good\u200b.example\u202e/"),
    *("http://[good.example]/", "http://[::1/", "http://good.example]/", "http://good[.example/", "http://<good.example>/"),
    *('http://"good.example"/', "http://good.example/{{a}}", "http://good.example/|", "http://good.example/^", "http://`a`/"),
    *("http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "example/", "http://good.example/" + "a" * 8_200),
    *(
        "http://\ud800.example/",
        "http://good.example/\ud800",
        "http://" + "ü" * 300 + ".example/",
        "http://xn--\u00fc.example/",
    ),
]
"""S8: what one parser may read in one way and another in another."""
