// Memory of large results. What the framework frees goes back to the system at once, and fresh pages cost more than what
// the kernels write to them; so a block outlives its tensor, for the next result of its size. Until then its pages are
// the system's to take when memory is short, but for those of the last small one, which is wanted again soonest.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

// Pages that belong to one tensor at a time.
class Block {
 public:
  explicit Block(size_t bytes) : bytes_(bytes), pages_((bytes + kPage - 1) / kPage * kPage) {
    const std::lock_guard lock(mutex());
    auto& free = kept();
    for (size_t i = free.size(); i-- > 0;)
      if (free[i].bytes == pages_) {
        address_ = free[i].address;
        free.erase(free.begin() + i);
        return;
      }
    address_ = fresh(pages_);
  }

  ~Block() {
    const std::lock_guard lock(mutex());
    auto& free = kept();
    if (!free.empty()) offer(free.back());
    free.push_back({address_, pages_, false});
    if (pages_ > kSmall) offer(free.back());
    size_t total = 0;
    for (const Kept& each : free) total += each.bytes;
    while (total > kMost) {
      total -= free.front().bytes;
      munmap(free.front().address, free.front().bytes);
      free.erase(free.begin());
    }
  }

  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void* address() const { return address_; }
  size_t bytes() const { return bytes_; }

 private:
  struct Kept {
    void* address;
    size_t bytes;
    bool offered;
  };
  static constexpr size_t kMost = size_t{1} << 30;  // kept at a time; the oldest go first
  static constexpr size_t kSmall = size_t{64} << 20;  // up to here the last one is offered to the system with the next
  static constexpr size_t kPage = size_t{2} << 20;  // a huge one: whole ones only are cheap to reach and to hand back

  // Neither is ever destroyed: tensors may outlive whatever is.
  static std::mutex& mutex() {
    static auto* one = new std::mutex;
    return *one;
  }
  static std::vector<Kept>& kept() {
    static auto* all = new std::vector<Kept>;
    return *all;
  }

  static void* fresh(size_t bytes) {
    void* mapped = mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    char* start = static_cast<char*>(mapped);
    char* address = start + (kPage - reinterpret_cast<uintptr_t>(mapped) % kPage) % kPage;
    if (address > start) munmap(start, address - start);
    munmap(address + bytes, start + kPage - address);
#ifdef MADV_HUGEPAGE
    madvise(address, bytes, MADV_HUGEPAGE);  // a wish: where it is refused, all is as before
#endif
    return address;
  }

  static void offer(Kept& block) {
#ifdef MADV_FREE
    if (!block.offered) madvise(block.address, block.bytes, MADV_FREE);
#endif
    block.offered = true;
  }

  void* address_;
  size_t bytes_, pages_;
};
