/* Updates with less on the wire: what a new version shares with the one that runs is read from this machine.
 *
 * A web server for one request (standard input and output are the connection, systemd.socket(5) with Accept=yes), to which
 * systemd-sysupdate's downloads are directed: "GET /http://server/path/name" is answered with what the server holds under
 * that address. For a root file system and a boot image the answer is put together: the hash tree of the new one (dm-verity's
 * format) names every block of 4096 bytes by its digest, the blocks whose digest this machine has are read here, and the
 * others are fetched as ranges.
 *
 * Nothing in here has to be trusted. It writes to no disk, and systemd-sysupdate holds every byte against the signed
 * SHA256SUMS, as it does with any server. What goes wrong ends the answer early; then the whole is downloaded.
 *
 *   reuse serve PREFIX-FILE TREE DATA PROGRAMS   answer the request on standard input
 *   reuse first COMMAND... -- COMMAND...         run the first command, and the second where it fails
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* libcurl's and libcrypto's interfaces are stable; these few declarations save their headers. */
typedef void CURL;
int curl_global_init(long flags);
CURL *curl_easy_init(void);
int curl_easy_setopt(CURL *handle, int option, ...);
int curl_easy_perform(CURL *handle);
int curl_easy_getinfo(CURL *handle, int info, ...);
const char *curl_easy_strerror(int code);
unsigned char *SHA256(const unsigned char *data, size_t size, unsigned char *digest);

enum {
	OPT_WRITEDATA = 10001, OPT_URL = 10002, OPT_RANGE = 10007, OPT_USERAGENT = 10018, OPT_LOW_SPEED_LIMIT = 19,
	OPT_LOW_SPEED_TIME = 20, OPT_NOBODY = 44, OPT_FAILONERROR = 45, OPT_FOLLOWLOCATION = 52, OPT_MAXREDIRS = 68,
	OPT_CONNECTTIMEOUT = 78, OPT_NOSIGNAL = 99, OPT_WRITEFUNCTION = 20011, OPT_HTTPGET = 80, OPT_PROTOCOLS_STR = 10318,
	OPT_REDIR_PROTOCOLS_STR = 10319,
	INFO_EFFECTIVE_URL = 0x100001, INFO_RESPONSE_CODE = 0x200002, INFO_LENGTH = 0x60000F,
};

#define BLOCK 4096u
#define DIGEST 32u
#define NONE UINT32_MAX
#define MAX_TREE (32u << 20)
#define MAX_LISTING (256u << 10)
#define MAX_PROGRAM (64u << 20)
#define MAX_SOURCES 8u
/* Blocks that are here but lie between two that are not are fetched too when they are this few: a request costs more. */
#define MAX_GAP 1u
#define MAX_RUN 2048u

struct bytes { unsigned char *data; size_t size, room; };
struct tree { const unsigned char *leaves, *salt; size_t salt_size; uint32_t blocks; };
struct source { const unsigned char *leaves; uint32_t blocks; int descriptor; };
struct place { uint8_t source; uint32_t block; };

static CURL *handle;
static struct source sources[MAX_SOURCES];
static unsigned source_count;

static void die(const char *format, ...) {
	va_list arguments;
	va_start(arguments, format);
	fputs("reuse: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(1);
}

static void *allocate(size_t count, size_t size) {
	void *memory = calloc(count ? count : 1, size);
	if (!memory) die("out of memory");
	return memory;
}

static void write_all(const void *data, size_t size) {
	const char *at = data;
	while (size) {
		ssize_t written = write(STDOUT_FILENO, at, size);
		if (written < 0 && errno == EINTR) continue;
		if (written <= 0) die("the connection was closed");
		at += written;
		size -= (size_t)written;
	}
}

static void answer(const char *status, uint64_t length) {
	char head[256];
	int size = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %llu\r\nConnection: close\r\n\r\n", status,
			    (unsigned long long)length);
	write_all(head, (size_t)size);
}

static size_t keep(char *data, size_t one, size_t count, void *user) {
	struct bytes *target = user;
	size_t size = one * count;
	if (size > target->room - target->size) return 0;
	memcpy(target->data + target->size, data, size);
	target->size += size;
	return size;
}

static uint64_t left;

/* Hands on what belongs to a range that was asked for, and not a byte more. */
static size_t hand_on(char *data, size_t one, size_t count, void *user) {
	size_t size = one * count;
	long code = 0;
	curl_easy_getinfo(handle, INFO_RESPONSE_CODE, &code);
	if (code != (user ? 206 : 200) || size > left) return 0;
	write_all(data, size);
	left -= size;
	return size;
}

static int fetch(const char *url, const char *range, size_t (*take)(char *, size_t, size_t, void *), void *user) {
	curl_easy_setopt(handle, OPT_HTTPGET, 1L);
	curl_easy_setopt(handle, OPT_URL, url);
	curl_easy_setopt(handle, OPT_RANGE, range);
	curl_easy_setopt(handle, OPT_WRITEFUNCTION, take);
	curl_easy_setopt(handle, OPT_WRITEDATA, user);
	return curl_easy_perform(handle);
}

/* A small file as a whole; its size is zero where it cannot be had. */
static struct bytes get(const char *url, size_t room) {
	struct bytes result = {allocate(room, 1), 0, room};
	int code = fetch(url, NULL, keep, &result);
	if (code) {
		fprintf(stderr, "reuse: %s: %s\n", url, curl_easy_strerror(code));
		result.size = 0;
	}
	return result;
}

/* The length of a file, and in *real where it lies behind redirections; -1 where it cannot be had. */
static int64_t length_of(const char *url, char **real) {
	int64_t length = -1;
	const char *found = NULL;
	curl_easy_setopt(handle, OPT_RANGE, NULL);
	curl_easy_setopt(handle, OPT_URL, url);
	curl_easy_setopt(handle, OPT_NOBODY, 1L);
	int code = curl_easy_perform(handle);
	curl_easy_setopt(handle, OPT_NOBODY, 0L);
	if (code || curl_easy_getinfo(handle, INFO_LENGTH, &length)) return -1;
	if (curl_easy_getinfo(handle, INFO_EFFECTIVE_URL, &found) || !found) return -1;
	*real = strdup(found);
	return *real ? length : -1;
}

static uint32_t number(const unsigned char *at) {
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* cryptsetup's format 1: a superblock, then the levels of hashes from the top to the leaves, each in whole blocks. */
static int read_tree(const unsigned char *data, size_t size, struct tree *tree) {
	if (size < 2 * BLOCK || memcmp(data, "verity\0\0", 8) || number(data + 8) != 1 || number(data + 12) != 1) return 0;
	if (strncmp((const char *)data + 32, "sha256", 32) || number(data + 64) != BLOCK || number(data + 68) != BLOCK) return 0;
	if (number(data + 76)) return 0;
	tree->blocks = number(data + 72);
	tree->salt_size = (size_t)data[80] | (size_t)data[81] << 8;
	tree->salt = data + 88;
	if (tree->blocks < 2 || tree->blocks > (1u << 24) || tree->salt_size > 256) return 0;
	uint64_t above = BLOCK, level = tree->blocks;
	while ((level = (level + BLOCK / DIGEST - 1) / (BLOCK / DIGEST)) > 1) above += level * BLOCK;
	above += BLOCK;
	uint64_t leaves = ((uint64_t)tree->blocks + BLOCK / DIGEST - 1) / (BLOCK / DIGEST) * BLOCK;
	if (above > size || leaves > above - BLOCK) return 0;
	tree->leaves = data + above - leaves;
	return 1;
}

static void add_source(const unsigned char *leaves, uint32_t blocks, int descriptor) {
	if (source_count < MAX_SOURCES) sources[source_count++] = (struct source){leaves, blocks, descriptor};
}

/* The root file system that runs: its hash tree is its index. */
static void add_root(const char *tree_path, const char *data_path, const struct tree *wanted) {
	struct tree own;
	unsigned char *data = allocate(MAX_TREE, 1);
	size_t size = 0;
	int hashes = open(tree_path, O_RDONLY | O_CLOEXEC), descriptor = open(data_path, O_RDONLY | O_CLOEXEC);
	if (hashes < 0 || descriptor < 0) die("%s or %s cannot be opened: %s", tree_path, data_path, strerror(errno));
	while (size < MAX_TREE) {
		ssize_t count = read(hashes, data + size, MAX_TREE - size);
		if (count <= 0) break;
		size += (size_t)count;
	}
	close(hashes);
	if (!read_tree(data, size, &own)) die("%s holds no hash tree", tree_path);
	/* Digests of the same block are only equal under the same salt. */
	if (own.salt_size != wanted->salt_size || memcmp(own.salt, wanted->salt, own.salt_size)) return;
	add_source(own.leaves, own.blocks, descriptor);
}

static void add_program(int descriptor, const struct tree *wanted) {
	struct stat status;
	unsigned char block[256 + BLOCK];
	if (fstat(descriptor, &status) || !S_ISREG(status.st_mode) || status.st_size <= 0 || status.st_size > MAX_PROGRAM) {
		close(descriptor);
		return;
	}
	uint32_t blocks = (uint32_t)((status.st_size + BLOCK - 1) / BLOCK);
	unsigned char *leaves = allocate(blocks, DIGEST);
	memcpy(block, wanted->salt, wanted->salt_size);
	for (uint32_t at = 0; at < blocks; at++) {
		memset(block + wanted->salt_size, 0, BLOCK);
		if (pread(descriptor, block + wanted->salt_size, BLOCK, (off_t)at * BLOCK) < 0) break;
		SHA256(block, wanted->salt_size + BLOCK, leaves + (size_t)at * DIGEST);
	}
	add_source(leaves, blocks, descriptor);
}

/* The boot images on the ESP. */
static void add_programs(const char *folder, const struct tree *wanted) {
	DIR *directory = opendir(folder);
	if (!directory) die("%s: %s", folder, strerror(errno));
	struct dirent *entry;
	while ((entry = readdir(directory))) {
		size_t size = strlen(entry->d_name);
		if (size < 4 || entry->d_name[0] == '.' || strcmp(entry->d_name + size - 4, ".efi")) continue;
		int descriptor = openat(dirfd(directory), entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (descriptor >= 0) add_program(descriptor, wanted);
	}
	closedir(directory);
}

static uint64_t slot_of(const unsigned char *digest, uint64_t mask) {
	uint64_t value;
	memcpy(&value, digest, sizeof value);
	return value & mask;
}

/* For each block of the new file where this machine has it. */
static struct place *find_all(const struct tree *wanted, uint32_t *missing) {
	uint64_t total = 0, slots = 1024;
	for (unsigned n = 0; n < source_count; n++) total += sources[n].blocks;
	while (slots < total * 2) slots *= 2;
	struct place *table = allocate(slots, sizeof *table), *found = allocate(wanted->blocks, sizeof *found);
	for (uint64_t n = 0; n < slots; n++) table[n].block = NONE;
	for (unsigned n = 0; n < source_count; n++) {
		for (uint32_t at = 0; at < sources[n].blocks; at++) {
			const unsigned char *digest = sources[n].leaves + (size_t)at * DIGEST;
			uint64_t slot = slot_of(digest, slots - 1);
			while (table[slot].block != NONE &&
			       memcmp(sources[table[slot].source].leaves + (size_t)table[slot].block * DIGEST, digest, DIGEST))
				slot = (slot + 1) & (slots - 1);
			if (table[slot].block == NONE) table[slot] = (struct place){(uint8_t)n, at};
		}
	}
	*missing = 0;
	for (uint32_t at = 0; at < wanted->blocks; at++) {
		const unsigned char *digest = wanted->leaves + (size_t)at * DIGEST;
		uint64_t slot = slot_of(digest, slots - 1);
		while (table[slot].block != NONE &&
		       memcmp(sources[table[slot].source].leaves + (size_t)table[slot].block * DIGEST, digest, DIGEST))
			slot = (slot + 1) & (slots - 1);
		found[at] = table[slot];
		*missing += table[slot].block == NONE;
	}
	free(table);
	return found;
}

static void copy_block(struct place place, uint64_t size) {
	unsigned char block[BLOCK];
	memset(block, 0, sizeof block);
	/* The last block of a file is shorter; what lies behind it counts as zeros. */
	if (pread(sources[place.source].descriptor, block, BLOCK, (off_t)place.block * BLOCK) < 0)
		die("cannot read: %s", strerror(errno));
	write_all(block, size);
}

static void assemble(const char *url, uint64_t length, const struct place *found, uint32_t blocks) {
	uint32_t at = 0;
	while (at < blocks) {
		if (found[at].block != NONE) {
			uint64_t rest = length - (uint64_t)at * BLOCK;
			copy_block(found[at++], rest < BLOCK ? rest : BLOCK);
			continue;
		}
		uint32_t end = at + 1, next = end;
		while (next < blocks && next - at < MAX_RUN && next - end <= MAX_GAP) {
			next++;
			if (found[next - 1].block == NONE) end = next;
		}
		uint64_t first = (uint64_t)at * BLOCK, last = (uint64_t)end * BLOCK;
		if (last > length) last = length;
		char range[64];
		snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)first, (unsigned long long)(last - 1));
		left = last - first;
		int code = fetch(url, range, hand_on, &left);
		if (code || left) die("%s: range %s: %s", url, range, curl_easy_strerror(code));
		at = end;
	}
}

static void pass_on(const char *url) {
	char *real = NULL;
	int64_t length = length_of(url, &real);
	if (length < 0) {
		answer("404 Not Found", 0);
		return;
	}
	answer("200 OK", (uint64_t)length);
	left = (uint64_t)length;
	int code = fetch(real, NULL, hand_on, NULL);
	if (code || left) die("%s: %s", url, curl_easy_strerror(code));
}

static int ends_with(const char *text, const char *end) {
	size_t size = strlen(text), wanted = strlen(end);
	return size >= wanted && !strcmp(text + size - wanted, end);
}

/* The name of the hash tree beside a file: a boot image's has another suffix, a root's is in the listing. */
static char *tree_url(const char *url) {
	size_t base = (size_t)(strrchr(url, '/') - url) + 1;
	char *result = allocate(strlen(url) + 1024, 1);
	if (ends_with(url, ".efi")) {
		strcpy(result, url);
		strcpy(result + strlen(url) - 4, ".tree");
		return result;
	}
	const char *last = strrchr(url + base, '_');
	if (!last) return NULL;
	size_t stem = (size_t)(last - (url + base)) + 1;
	memcpy(result, url, base);
	strcpy(result + base, "SHA256SUMS");
	struct bytes listing = get(result, MAX_LISTING);
	char *state = NULL, *text = allocate(listing.size + 1, 1);
	memcpy(text, listing.data, listing.size);
	for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		if (strlen(line) < 67 || strlen(line) > 900) continue;
		const char *name = line + 66;
		if (!strncmp(name, url + base, stem) && ends_with(name, ".verity") && !strchr(name, '/')) {
			strcpy(result + base, name);
			return result;
		}
	}
	return NULL;
}

static void serve(char **places) {
	char head[8192], prefix[4096], *url, *end, *real = NULL;
	size_t size = 0;
	for (;;) {
		ssize_t count = read(STDIN_FILENO, head + size, sizeof head - 1 - size);
		if (count <= 0) exit(0);
		size += (size_t)count;
		head[size] = 0;
		if (strstr(head, "\r\n\r\n")) break;
		if (size == sizeof head - 1) die("a request too long");
	}
	/* Only what the node was told to ask: the part of its address that holds no specifier. */
	int file = open(places[0], O_RDONLY | O_CLOEXEC);
	ssize_t known = file < 0 ? -1 : read(file, prefix, sizeof prefix - 1);
	if (known < 8) die("%s cannot be read", places[0]);
	prefix[known] = 0;
	prefix[strcspn(prefix, "%\r\n \t")] = 0;
	if (strncmp(head, "GET /", 5) || !(end = strchr(head + 5, ' '))) {
		answer("400 Bad Request", 0);
		return;
	}
	*end = 0;
	url = head + 5;
	if (strncmp(url, prefix, strlen(prefix)) || strstr(url, "/../") || !strrchr(url, '/')) {
		answer("403 Forbidden", 0);
		return;
	}
	curl_global_init(3L);
	handle = curl_easy_init();
	if (!handle) die("libcurl does not start");
	curl_easy_setopt(handle, OPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(handle, OPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(handle, OPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(handle, OPT_MAXREDIRS, 5L);
	curl_easy_setopt(handle, OPT_FAILONERROR, 1L);
	curl_easy_setopt(handle, OPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, OPT_CONNECTTIMEOUT, 30L);
	curl_easy_setopt(handle, OPT_LOW_SPEED_LIMIT, 30L);
	curl_easy_setopt(handle, OPT_LOW_SPEED_TIME, 60L);
	curl_easy_setopt(handle, OPT_USERAGENT, "bedplate-reuse");
	int root = ends_with(url, ".root");
	char *tree_at = root || ends_with(url, ".efi") ? tree_url(url) : NULL;
	struct bytes hashes = {NULL, 0, 0};
	struct tree wanted;
	if (tree_at) hashes = get(tree_at, MAX_TREE);
	if (!hashes.size || !read_tree(hashes.data, hashes.size, &wanted)) {
		pass_on(url);
		return;
	}
	if (root) add_root(places[1], places[2], &wanted);
	else add_programs(places[3], &wanted);
	uint32_t missing = 0;
	struct place *found = find_all(&wanted, &missing);
	int64_t length = length_of(url, &real);
	if (length < 0 || ((uint64_t)length + BLOCK - 1) / BLOCK != wanted.blocks) {
		pass_on(url);
		return;
	}
	fprintf(stderr, "reuse: %s: %u of %u blocks are here already\n", strrchr(url, '/') + 1, wanted.blocks - missing,
		wanted.blocks);
	answer("200 OK", (uint64_t)length);
	assemble(real, (uint64_t)length, found, wanted.blocks);
}

static int first(char **arguments) {
	char **second = arguments;
	while (*second && strcmp(*second, "--")) second++;
	if (!*second || !second[1] || second == arguments) die("two commands are needed");
	*second = NULL;
	pid_t child = fork();
	if (child < 0) die("cannot start a process: %s", strerror(errno));
	if (!child) {
		execv(arguments[0], arguments);
		_exit(127);
	}
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status)) return 0;
	fprintf(stderr, "reuse: that did not work; now the whole, from the server itself\n");
	execv(second[1], second + 1);
	die("%s: %s", second[1], strerror(errno));
	return 1;
}

int main(int count, char **arguments) {
	if (count == 6 && !strcmp(arguments[1], "serve")) serve(arguments + 2);
	else if (count > 4 && !strcmp(arguments[1], "first")) return first(arguments + 2);
	else die("see the first lines of its source");
	return 0;
}
