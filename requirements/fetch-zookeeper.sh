# Unpacks Debian's ZooKeeper, and a Java where the machine has none, into $1/debian, without root (some 200 MB); says so and
# goes on where that cannot be had: tests of replicas, and scenarios of `make matrix`, are skipped then.
mkdir -p "$1"
into=$(cd "$1" && pwd)
. "$(dirname "$0")/debian.sh"

# Debian's Java has links into /etc, where nothing is without an installation
relink() {
	find "$1/usr/lib/jvm" -type l -lname '/etc/*' | while read -r link; do
		ln -sfn "$into/debian$(readlink "$link")" "$link"
	done
}

fetch() {
	packages="libzookeeper-java libslf4j-java"
	knows libzookeeper-java || return
	if ! command -v java >/dev/null; then
		packages="$packages $(apt-cache $options depends default-jre-headless | awk '/Depends: openjdk-/ {print $2; exit}')"
	fi
	unpack "$work/zookeeper" $packages || return
	[ ! -d "$work/zookeeper/usr/lib/jvm" ] || relink "$work/zookeeper" || return
	rm -rf "$into/debian"
	mv "$work/zookeeper" "$into/debian"
}

if [ -e /usr/share/java/zookeeper.jar ] && command -v java >/dev/null; then
	exit 0
fi
if ! fetch 2>"$work/why"; then
	tail -n 3 "$work/why" >&2
	echo "make: no ZooKeeper to be had here: tests of replicas are skipped (Debian: apt-get install zookeeper default-jre-headless)" >&2
fi
