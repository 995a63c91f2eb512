#!/usr/bin/env bash
# Make the environment that the demo, the tests and GNU Radio Companion run in: `make setup`.
#
#   VENV=path         where the environment is (.venv); one that this script did not make is used as it stands
#   GR_PYTHON=path    the interpreter that GNU Radio was built for (/usr/bin/python3)
#   TORCH_INDEX=url   one more package index, such as PyTorch's own for CPU builds
#
# `setup.sh tests` also installs the Debian packages that some tests need, where it can.
#
# It can be interrupted: the next call goes on where this one stopped.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=${VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$root/$venv
# Not the first python3 on PATH: GNU Radio's modules load only in the interpreter that they were compiled for.
gr_python=${GR_PYTHON:-/usr/bin/python3}
python=$venv/bin/python
state=$venv/.crlsc-setup
log=$root/build/setup.log

say() { printf '%s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Log what a command prints; on a terminal show its newest line, so that a long download is seen to be alive.
show() {
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        [[ ! -t 1 ]] || printf '\r\033[K      %.72s' "$line"
    done
    [[ ! -t 1 ]] || printf '\r\033[K'
}

# The line of the log that best says why the last command failed.
reason() {
    if grep -qaE 'name resolution|resolv|Network is unreachable|Connection refused|timed out|ProxyError' "$log"; then
        say "the network or the package index cannot be reached"
    else
        grep -aE '^(E:|ERROR|error)|Error:' "$log" | tail -n 1 | cut -c1-200
    fi
}

# step LABEL COMMAND...: run a command, or name what stopped it.
step() {
    local label=$1 start=$SECONDS
    shift
    "$@" 2>&1 </dev/null | show ||
        die "$label failed: $(reason). All of it is in build/setup.log; mend it and call make setup again"
    say "      $label: $((SECONDS - start)) s"
}

# "VERSION NUMPY PYTHON" of the GNU Radio that gr_python imports. -I: neither PYTHONPATH nor a user's own packages,
# whose numpy may be another than the one that GNU Radio was built against.
probe() {
    "$gr_python" -I -c 'import sys, numpy, pmt; from gnuradio import gr
print(gr.version(), numpy.__version__, "%d.%d" % sys.version_info[:2])' 2>&1 | tail -n 1
}

has_gnuradio() {
    "$gr_python" -I -c 'import importlib.util as u, sys; sys.exit(u.find_spec("gnuradio") is None)' 2>/dev/null
}

has_venv() { "$gr_python" -I -c 'import ensurepip, venv' 2>/dev/null; }

has_gtk() { "$gr_python" -I -c 'import gi; gi.require_version("Gtk", "3.0")' 2>/dev/null; }

# What the environment is made from. It differs once a pin, this script or the GNU Radio found does.
key() {
    {
        say "$root $1"
        cat pyproject.toml requirements/*.txt scripts/setup.sh scripts/expose_gnuradio.py
    } | sha256sum | cut -d ' ' -f 1
}

write_state() { printf '%s\n%s\n' "$root" "$1" >"$state"; }

made_here() {
    [[ -f $state ]] && { [[ $venv == "$root/.venv" ]] || [[ $(head -n 1 "$state") == "$root" ]]; }
}

up_to_date() {
    local found
    made_here && found=$(probe) && [[ $(tail -n 1 "$state") == $(key "$found") ]]
}

# An environment that somebody else made: look, do not touch.
use_as_it_stands() {
    local missing
    missing=$("$python" -c 'import importlib.util as u
names = "gnuradio pmt numpy scipy numba faiss onnxruntime torch rich yaml aiohttp pytest".split()
print(" ".join(n for n in names if u.find_spec(n) is None))') || die "$python does not run; name another VENV"
    [[ -z $missing ]] || die "$venv lacks $missing; install them there, or leave VENV out to have .venv made"
    say "setup: using $venv as it stands"
}

# apt_install PACKAGE...: install Debian packages as root or with sudo; says why in $problem, and fails, where it cannot.
apt_install() {
    local as_root=()
    problem=""
    if ! command -v apt-get >/dev/null; then
        problem="there is no apt-get here"
    elif [[ $(id -u) != 0 ]]; then
        if command -v sudo >/dev/null && { [[ -t 0 ]] && sudo -v || sudo -n true 2>/dev/null; }; then
            as_root=(sudo)
        else
            problem="apt-get needs root or sudo"
        fi
    fi
    [[ -z $problem ]] || return 1
    say "      apt-get install $* (1 to 5 minutes)"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    step "apt-get update" "${apt[@]}" update
    step "apt-get install" "${apt[@]}" install -y --no-install-recommends "$@"
}

install_system_packages() {
    local needed=() wanted=() problem
    has_gnuradio || needed+=(gnuradio)
    has_venv || needed+=(python3-venv)
    # GNU Radio Companion's windows; Debian's gnuradio package does not ask for it. All else runs without.
    has_gtk || wanted+=(gir1.2-gtk-3.0)
    [[ ${#needed[@]} -gt 0 || ${#wanted[@]} -gt 0 ]] || return 0
    apt_install "${needed[@]}" "${wanted[@]}" && return
    [[ ${#needed[@]} -eq 0 ]] || die "$gr_python lacks ${needed[*]}, and $problem; have an" \
        "administrator install that, or take the conda-forge or pip route of docs/install.md"
    say "      no ${wanted[*]} ($problem): everything works but make grc"
}

# What some tests need beside the environment: a browser for reports, a C compiler and libzmq for the C client.
install_test_packages() {
    local wanted=() problem
    command -v chromedriver >/dev/null || wanted+=(chromium chromium-driver)
    command -v cc >/dev/null || wanted+=(gcc libc6-dev)
    [[ -e /usr/include/zmq.h ]] || wanted+=(libzmq3-dev)
    [[ ${#wanted[@]} -gt 0 ]] || return 0
    mkdir -p build
    say "setup: what the tests of reports and of the C client need"
    # In a subshell, which alone ends where apt-get fails: the other tests run all the same.
    (apt_install "${wanted[@]}" || say "      apt-get was not called: $problem") ||
        say "      continuing; see build/setup.log"
    command -v chromedriver cc >/dev/null && [[ -e /usr/include/zmq.h ]] || say "      tests that need ${wanted[*]} are skipped"
}

make_venv() {
    local version=$1
    if [[ -e $venv && ! -x $python && ! -f $state ]] && [[ -n $(ls -A "$venv") ]]; then
        die "$venv is not a Python environment; name an empty folder or none with VENV="
    fi
    # Half-made, or made for the Python of an older system: there is nothing in it to keep.
    local works="import pip, sys; assert '%d.%d' % sys.version_info[:2] == '$version'"
    [[ ! -e $venv ]] || "$python" -c "$works" 2>/dev/null || rm -rf "$venv"
    mkdir -p "$venv"
    write_state unfinished
    [[ -x $python ]] || step "python -m venv" "$gr_python" -m venv "$venv"
}

install_packages() {
    local pip=("$python" -m pip --disable-pip-version-check --no-input --no-color)
    local install=("${pip[@]}" install -c "$1" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"})
    step "pip install setuptools" "${install[@]}" setuptools wheel
    # Built with the pinned setuptools, which the line above brought, rather than with one fetched for each package.
    # h5py, importlib-resources and matplotlib are what Sionna needs beside what is here.
    step "pip install" "${install[@]}" --no-build-isolation -e ".[train,sweep,baselines,ray,evidence,gnuradio,milvus,net,dev]" \
        h5py importlib-resources matplotlib
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        # Without its dependencies: it declares numpy >= 2.2.6, yet runs the same on 1.26 (the last step tries it).
        step "pip install sionna-no-rt" "${pip[@]}" install --no-deps sionna-no-rt==2.2.0
    else
        say "      no Sionna: it needs Python 3.11 or newer. Sweeps over its channels will not run; all else does"
    fi
}

main() {
    trap 'die "interrupted; make setup goes on from here"' INT TERM
    if [[ -x $python ]] && ! made_here; then
        use_as_it_stands
        return 0
    fi
    if up_to_date; then
        say "setup: $venv is up to date"
        return 0
    fi

    mkdir -p build
    exec 9>build/setup.lock
    if ! flock -n 9; then
        say "setup: another one is running; waiting for it"
        flock 9
        ! up_to_date || return 0
    fi
    : >"$log"
    say "setup: GNU Radio by apt-get, and the environment $venv with PyTorch, Sionna and the rest by pip."
    say "       Takes 2 to 10 minutes, most of it downloads, and up to 7 GB of disk. It can be interrupted."
    say "[1/5] GNU Radio"
    install_system_packages
    local found
    found=$(probe) || die "$gr_python has a GNU Radio that does not import: $found; reinstall GNU Radio, and take any" \
        "numpy that pip put beside it away"
    local gr_version numpy_version python_version
    read -r gr_version numpy_version python_version <<<"$found"
    say "      GNU Radio $gr_version on Python $python_version, built for numpy ${numpy_version%%.*}"
    local constraints=requirements/numpy${numpy_version%%.*}.txt
    [[ -f $constraints ]] || die "GNU Radio here uses numpy $numpy_version, and there is no $constraints to pin it"

    say "[2/5] Environment"
    make_venv "$python_version"
    say "[3/5] Packages (1 to 8 minutes)"
    install_packages "$constraints"
    say "[4/5] GNU Radio's modules into the environment"
    step "exposing GNU Radio" "$gr_python" -I scripts/expose_gnuradio.py \
        "$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
    say "[5/5] All of it together in one process (about 20 seconds)"
    "$python" -m crlsc_phy.cli.doctor >>"$log" 2>&1 || {
        "$python" -m crlsc_phy.cli.doctor >&2 || true
        die "the environment does not work (above). If nothing there helps: rm -r $venv, then make setup"
    }
    write_state "$(key "$found")"
    say "setup: done in $((SECONDS / 60)) min $((SECONDS % 60)) s. make doctor shows the versions."
}

case ${1:-} in
    "") main ;;
    tests) main && install_test_packages ;;
    *) die "'$1' is not an argument; give none, or tests" ;;
esac
