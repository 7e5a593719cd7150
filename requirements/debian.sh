# Sourced: Debian's packages without root. Where the machine has no lists of packages, a user's own are fetched into $work.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=""

# knows PACKAGE: can it be had here?
knows() {
	apt-cache $options show "$1" >/dev/null 2>&1 && return
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
	options="-o Dir::State::Lists=$work/lists -o Dir::Cache=$work/cache"
	apt-get -qq $options update >/dev/null 2>&1 && apt-cache $options show "$1" >/dev/null 2>&1
}

# unpack INTO PACKAGE...: fetches them and unpacks all into one folder
unpack() {
	folder=$1
	shift
	mkdir "$work/packages"
	(cd "$work/packages" && apt-get -qq $options download "$@") || return
	for package in "$work"/packages/*.deb; do
		dpkg -x "$package" "$folder" || return
	done
}
