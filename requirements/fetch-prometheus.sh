# Unpacks Debian's prometheus and promtool into $1/bin, without root; says so and goes on where that cannot be had.
into=$1
if command -v promtool >/dev/null && command -v prometheus >/dev/null; then
	exit 0
fi
. "$(dirname "$0")/debian.sh"
if (knows prometheus && unpack "$work/unpacked" prometheus) 2>"$work/why"; then
	install -m 755 "$work/unpacked/usr/bin/prometheus" "$work/unpacked/usr/bin/promtool" "$into/bin/"
else
	tail -n 3 "$work/why" >&2
	echo "make: no prometheus to be had here: the tests of rules are skipped (Debian: apt-get install prometheus)" >&2
fi
