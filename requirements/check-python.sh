# Is there a Python that can make the virtual environment? Says what to install where not. $1: the interpreter, or "".
python=$1
if [ -z "$python" ]; then
	echo "make: no Python 3.11 or newer found: install one (Debian, Ubuntu: apt-get install python3 python3-venv)" >&2
	echo "make: or name it: make PYTHON=/path/to/python3" >&2
	exit 2
fi
if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
	echo "make: $python does not start: name another with make PYTHON=/path/to/python3" >&2
	exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	echo "make: $python is Python $version, but 3.11 or newer is needed: name another with make PYTHON=/path/to/python3" >&2
	exit 2
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
	echo "make: $python has no ensurepip, so it cannot make a virtual environment" >&2
	echo "make: install it (Debian, Ubuntu: apt-get install python$version-venv; Fedora: dnf install python3-pip)" >&2
	exit 2
fi
