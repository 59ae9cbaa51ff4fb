# Takes a patch back that did not come up: bedplate-patch(8) saves what it replaces below its store, with a word that says
# how far it came. Saved trees change places with the present ones by renaming, so this needs nothing of the root's own
# programs, and can be repeated from any point. Called with the root mounted read-only at $1.

patch_write() {
	# In place: a new file would have no SELinux label yet. A torn word is read as "take it back", which is safe.
	echo "$2" >"$1" && sync
}

patch_there() { [ -e "$1" ] || [ -L "$1" ]; }

patch_exchange() {
	number=$((number + 1))
	if [ "$1" = A ]; then
		if patch_there "$top/$2"; then mv -T "$top/$2" "$current/gone/$number" || return 1; fi
		return 0
	fi
	patch_there "$current/saved/$2" || return 0
	# What is the administrator's own below a saved tree moves along.
	while read -r kept; do
		case $kept in "$2"/*) ;; *) continue ;; esac
		if patch_there "$top/$kept" && ! patch_there "$current/saved/$kept"; then
			mv -T "$top/$kept" "$current/saved/$kept" || return 1
		fi
	done <"$current/kept"
	if patch_there "$top/$2"; then mv -T "$top/$2" "$current/gone/$number" || return 1; fi
	case $2 in
	*/*)
		above=$top/${2%/*}
		# A file that took the place of a directory.
		[ -d "$above" ] || rm -f "$above"
		mkdir -p "$above"
		;;
	esac
	mv -T "$current/saved/$2" "$top/$2"
}

patch_restore() {
	echo "bedplate: the last patch is taken back" >/dev/kmsg
	patch_write "$current/state" restoring
	# Left by an earlier try that was interrupted; the numbers start anew.
	try=0
	while [ -e "$current/gone.$try" ]; do try=$((try + 1)); done
	if [ -e "$current/gone" ]; then mv -T "$current/gone" "$current/gone.$try"; fi
	mkdir -p "$current/gone"
	number=0
	while read -r kind path; do
		[ -n "$path" ] || continue
		patch_exchange "$kind" "$path" || echo "bedplate: $path could not be put back" >/dev/kmsg
	done <"$current/items"
	sync
	patch_write "$current/state" swapped
}

patch_check() {
	top=$1
	current=$top/var/lib/bedplate-patch/current
	[ -e "$current/complete" ] || return 0
	word=
	read -r word rest <"$current/state"
	case $word in
	saving | swapped) return 0 ;;
	applied)
		boots=
		read -r boots rest <"$current/boots"
		case $boots in
		0 | 1)
			patch_write "$current/boots" $((boots + 1))
			return 0
			;;
		esac
		;;
	esac
	patch_restore
}
