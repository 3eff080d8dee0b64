#!/bin/sh
# Checks this folder's files, finds a Python, and runs install.py. Needs only POSIX sh and sha256sum;
# for --public-key also ssh-keygen and base64.
set -eu
LC_ALL=C
export LC_ALL
# A service, or a task without a console, may start this with closed streams: the next file would get their number.
(true 3<&0) 2>/dev/null || exec </dev/null
(true 3>&2) || exec 2>/dev/null
(true 3>&1) 2>/dev/null || exec >/dev/null

stop() {
    echo "install: $*" >&2
    exit 1
}

digest() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum | cut -c1-64
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 | cut -c1-64
    else
        stop "sha256sum or shasum is needed, and neither is installed. Install coreutils."
    fi
}

# Prints the Ed25519 public key as OpenSSH writes it; the file may be PEM or OpenSSH's own.
read_key() {
    case $(head -n 1 "$key") in
        "ssh-ed25519 "*) head -n 1 "$key" | tr -d '\r' | cut -d ' ' -f 1,2; return ;;
        "-----BEGIN PUBLIC KEY-----"*) ;;
        *) return 1 ;;
    esac
    body=$(sed '/^-----/d' "$key" | tr -d '\r\n')
    # 12 bytes that say Ed25519 (RFC 8410), then the key's 32.
    case $body in *[!A-Za-z0-9+/=]*) return 1 ;; MCowBQYDK2VwAyEA*) [ ${#body} = 60 ] || return 1 ;; *) return 1 ;; esac
    bytes=$({ printf '\000\000\000\013ssh-ed25519\000\000\000\040'; printf '%s' "${body#????????????????}" | base64 -d; } | base64 | tr -d '\n')
    echo "ssh-ed25519 $bytes"
}

# Before anything else of the bundle is read or run.
check_signature() {
    [ -n "$key" ] || return 0
    [ -f SHA256SUMS.sig ] || stop "The bundle has no signature, and --public-key asks for one. Ask for a signed one."
    command -v ssh-keygen >/dev/null 2>&1 ||
        stop "A signature is checked by ssh-keygen (OpenSSH 8.1 or newer), and it is not installed. Install the package openssh-client."
    signer=$(read_key) || stop "$key is not an Ed25519 public key (PEM or OpenSSH). Check --public-key."
    echo "wetread-bundle $signer" >"$work/signers"
    ssh-keygen -Y verify -f "$work/signers" -I wetread-bundle -n wetread-bundle -s SHA256SUMS.sig <SHA256SUMS >"$work/said" 2>&1 ||
        stop "The bundle is not signed by the key in $key: $(cat "$work/said"). Do not install it."
}

check_files() {
    link=$(find . -type l | head -n 1)
    [ -z "$link" ] || stop "$link is a link, and a bundle has none. Unpack the bundle again, into an empty folder."
    [ -f SHA256SUMS ] || stop "SHA256SUMS is missing beside install.sh. Unpack the bundle again."
    listed=$(sed '$d' SHA256SUMS | digest)
    [ "$(tail -n 1 SHA256SUMS)" = "$listed  SHA256SUMS" ] ||
        stop "SHA256SUMS changed after the bundle was made. Copy the bundle again."
    sed '$d' SHA256SUMS >"$work/listed"
    while read -r wanted name; do
        [ -f "$name" ] || stop "$name is missing. Unpack the bundle again."
        [ "$(digest <"$name")" = "$wanted" ] || stop "$name changed after the bundle was made. Copy the bundle again."
    done <"$work/listed"
    cut -c67- "$work/listed" | sort >"$work/names"
    # File managers leave some names in a folder that is opened; nothing reads them at the top.
    find . ! -type d ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig ! -path ./Thumbs.db ! -path ./desktop.ini ! -path ./.DS_Store | sed 's|^\./||' | sort >"$work/found"
    strange=$(comm -13 "$work/names" "$work/found" | head -n 1)
    [ -z "$strange" ] || stop "$strange does not belong to the bundle. Unpack the bundle again, into an empty folder."
}

suits() {
    "$1" -I -c 'import struct, sys; sys.exit(sys.version_info[:2] != tuple(map(int, sys.argv[1].split("."))) or struct.calcsize("P") != 8)' "$wanted_python" 2>/dev/null
}

find_python() {
    wanted_python=$(sed -n 's/.*"python": "\(3\.[0-9]*\)".*/\1/p' bundle.json)
    if [ -n "$python" ]; then
        suits "$python" || stop "--python must be a 64-bit Python $wanted_python, and $python is not."
        return
    fi
    archive=$(grep '^python/' "$work/names" | head -n 1)
    if [ -n "$archive" ]; then
        mkdir -p "$work/python"
        tar -xf "$archive" -C "$work/python" || stop "tar cannot unpack $archive. Copy the bundle again."
        python=bundled
        return
    fi
    for candidate in "python$wanted_python" python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 && suits "$candidate"; then
            python=$candidate
            return
        fi
    done
    stop "This machine has no 64-bit Python $wanted_python. Install one, name it with --python, or ask for a bundle with --python-archive."
}

main() {
    python= to= key=
    while [ $# -gt 0 ]; do
        case $1 in
            --to) to=${2:?--to needs a folder}; shift 2 ;;
            --python) python=${2:?--python needs a program}; shift 2 ;;
            --public-key) key=${2:?--public-key needs a file}; shift 2 ;;
            *) echo "usage: sh install.sh [--to FOLDER] [--python PYTHON] [--public-key FILE]"; [ "$1" = --help ] && exit 0; exit 2 ;;
        esac
    done
    case $to in "" | /*) ;; *) to=$PWD/$to ;; esac
    case $key in "" | /*) ;; *) key=$PWD/$key ;; esac
    case $python in /*) ;; */*) python=$PWD/$python ;; esac
    [ -n "$to" ] || [ -n "${HOME:-}" ] || stop "There is no home folder to install into. Give --to FOLDER."
    [ -n "$to" ] || to=$HOME/wetread
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    cd "$(dirname "$0")"
    check_signature
    check_files
    find_python
    if [ "$python" = bundled ]; then
        [ ! -e "$to" ] || stop "$to already exists. Delete it, or choose another folder with --to."
        mkdir -p "$to"
        mv "$work/python" "$to/python"
        for candidate in "$to"/python/bin/python3 "$to"/python/*/bin/python3; do
            if [ -x "$candidate" ]; then python=$candidate; break; fi
        done
        suits "$python" || { rm -rf "$to"; stop "The bundle's archive has no 64-bit Python $wanted_python that runs here. Ask for a bundle for this machine."; }
        "$python" -I install.py "$to" --has-python ${key:+--public-key "$key"} || { rm -rf "$to"; exit 1; }
    else
        "$python" -I install.py "$to" ${key:+--public-key "$key"}
    fi
}

main "$@"
