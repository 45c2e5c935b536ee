#!/bin/sh
# What an installer fetches, in an installer's order, with the arguments of the kernel's command line:
# the tree's description, the second stage, the images that need not be there, the kickstart with the
# machine's address, the repository's index, the packages; then it says that it is done. Both the
# virtual machine's init and the second machine of the story run it. Wants busybox's sh and wget.
#
#     install.sh "KERNEL ARGUMENTS" INTERFACE FOLDER
set -eu
arguments=$1 interface=$2 folder=$3
for word in $arguments; do
    case $word in
        inst.repo=*) repo=${word#inst.repo=} ;;
        inst.ks=*) kickstart=${word#inst.ks=} ;;
    esac
done
repo=${repo%/}
mac=$(cat "/sys/class/net/$interface/address")
get() { wget -q -O "$folder/$2" "$repo/$1"; }

get .treeinfo treeinfo
image=$(sed -n 's/^mainimage = //p' "$folder/treeinfo")
get "$image" image
for optional in images/updates.img images/product.img; do
    if get "$optional" optional; then echo "there is no $optional, and yet it came"; exit 1; fi
done
wget -q --header "X-Anaconda-Architecture: x86_64" --header "X-RHN-Provisioning-MAC-0: $interface $mac" \
    -O "$folder/ks" "$kickstart"
get repodata/repomd.xml repomd
get "$(sed -n 's/.*href="\([^"]*primary\.xml[^"]*\)".*/\1/p' "$folder/repomd")" primary.gz
gzip -dc "$folder/primary.gz" > "$folder/primary"
for package in $(sed -n 's/.*href="\([^"]*\.rpm\)".*/\1/p' "$folder/primary" | sort); do
    get "$package" package
    sha256sum < "$folder/package"
done > "$folder/sums"
name=$(sed -n 's/^network --hostname=//p' "$folder/ks")
done_url=$(sed -n "s/.*curl .*'\(http[^']*\)'.*/\1/p" "$folder/ks")
wget -q -O "$folder/done" --post-data '' "$done_url"
echo "INSTALLED $name $(sha256sum < "$folder/image" | cut -c1-16) $(sha256sum < "$folder/sums" | cut -c1-16)"
