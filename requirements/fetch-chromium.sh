# Unpacks Debian's chromium-headless-shell, with the libraries and fonts that this machine lacks, into $1/chromium, without
# root (some 100 MB); says so and goes on where that cannot be had. $1/bin/chromium-headless-shell starts it.
into=$(cd "$1" && pwd)
for name in chromium chromium-browser google-chrome chromium-headless-shell chrome-headless-shell; do
	if command -v "$name" >/dev/null; then
		exit 0
	fi
done
. "$(dirname "$0")/debian.sh"

# What it depends on and is not here. Not: scripts for desktops, and the C library, which has to be the machine's.
lacking() {
	direct=$(apt-cache $options depends chromium-headless-shell |
		awk '$1 == "Depends:" && $2 !~ /^<|^chromium-common$/ {print $2}')
	apt-get $options --simulate install --no-install-recommends $direct fonts-dejavu-core |
		awk '$1 == "Inst" && $2 !~ /^(libc6|libc-bin|libgcc-s1|libstdc\+\+6)$|-dev$/ {print $2}'
}

fetch() {
	knows chromium-headless-shell && packages=$(lacking) && unpack "$work/chromium" chromium-headless-shell chromium-common $packages || return
	rm -rf "$into/chromium"
	mv "$work/chromium" "$into/chromium"
	cat >"$into/chromium/fonts.conf" <<-END
		<fontconfig><dir>$into/chromium/usr/share/fonts</dir><dir>/usr/share/fonts</dir>
		<cachedir>$into/chromium/fonts.cache</cachedir>
		<alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
		<alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias></fontconfig>
	END
	libraries=$(find "$into/chromium" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
	cat >"$work/start" <<-END
		#!/bin/sh
		LD_LIBRARY_PATH="$libraries" FONTCONFIG_FILE="$into/chromium/fonts.conf" \\
			exec "$into/chromium/usr/lib/chromium/chromium-headless-shell" "\$@"
	END
	chmod 755 "$work/start"
	"$work/start" --headless --no-sandbox --disable-gpu --dump-dom about:blank >/dev/null || return
	install -m 755 "$work/start" "$into/bin/chromium-headless-shell"
}

if ! fetch 2>"$work/why"; then
	rm -rf "$into/chromium"
	tail -n 3 "$work/why" >&2
	echo "make: no Chromium to be had here: the tests of the page are skipped (Debian: apt-get install chromium)" >&2
fi
