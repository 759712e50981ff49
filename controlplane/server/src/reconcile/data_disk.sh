# Puts a folder on a disk of its own: ROOT BYTES ACCOUNT [KIND]. May be run as often as one likes; changes nothing that is right.
# Only a whole disk of exactly that size that holds nothing at all is ever formatted; one that this made before is used again.
set -eu
root=$1 bytes=$2 account=$3 kind=${4:-disk} label=hanse-data
PATH=$PATH:/usr/sbin:/sbin
fail() { echo "hanse: data disk for $root: $1" >&2; exit 1; }
if ! mountpoint -q "$root"; then
    for entry in "$root"/* "$root"/.[!.]*; do
        case ${entry##*/} in '*' | '.[!.]*' | lost+found | artifacts | instances) ;; *) fail "the folder holds $entry already" ;; esac
    done
    ours='' empty='' others=''
    for disk in $(lsblk -bdnpro NAME,SIZE,TYPE,RO | awk -v b="$bytes" -v k="$kind" '$2 == b && $3 == k && $4 == 0 { print $1 }'); do
        found=0
        seen=$(blkid -p -o export "$disk" 2>&1) || found=$?
        if [ "$found" = 0 ] && printf '%s\n' "$seen" | grep -qx "LABEL=$label" && printf '%s\n' "$seen" | grep -qx TYPE=ext4; then
            ours="$ours $disk"
        elif [ "$found" = 2 ] && [ "$(lsblk -nro NAME "$disk" | wc -l)" = 1 ] &&
            [ "$(head -c 16777216 "$disk" | tr -d '\000' | head -c 1 | wc -c)" = 0 ]; then
            empty="$empty $disk"
        else
            others="$others $disk"
        fi
    done
    if [ -z "$ours" ]; then
        set -- $empty
        [ $# -gt 0 ] || fail "no empty disk of $bytes bytes is there${others:+; not empty:$others}"
        [ $# = 1 ] || fail "more than one empty disk of $bytes bytes:$empty"
        mkfs.ext4 -q -m 0 -L "$label" "$1"
        ours=$1
    fi
    set -- $ours
    [ $# = 1 ] || fail "more than one disk is labelled $label:$ours"
    uuid=$(blkid -p -s UUID -o value "$1")
    # Without its disk the folder takes nothing: what would be written there would be missing later.
    [ -d "$root" ] || { mkdir -p "$root" && chmod 000 "$root" && { chattr +i "$root" 2>/dev/null || true; }; }
    line="UUID=$uuid $root ext4 defaults,nofail,x-systemd.device-timeout=60s 0 2"
    grep -qxF "$line" /etc/fstab || printf '%s\n' "$line" >>/etc/fstab
    mount "$root"
fi
# The account may be made later in the first start: then this is run again.
if id "$account" >/dev/null 2>&1; then chown "$account:" "$root"; chmod 755 "$root"; fi
