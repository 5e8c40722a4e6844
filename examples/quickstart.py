"""The shortest complete use of the mesh. Type the first line in one terminal, the second in another.

meshnode examples.quickstart
python -m examples.quickstart
"""

import asyncio
import os

import mesh


@mesh.task
def square(x: int) -> int:
    """Run in a worker process of some node."""
    return x * x


async def main() -> None:
    """Find nodes by mDNS and have them work."""
    async with mesh.Client(os.environ.get("MESHNODE_MESH", "default")) as client:
        result = await client.call(square, 12)
        print(result)  # 144

        job = client.submit(square, 13)  # returns at once
        print(await job, "from node", job.node)  # 169 from node …

        async for result in client.map(square, range(5)):
            print(result)  # 0, 1, 4, 9, 16


if __name__ == "__main__":
    asyncio.run(main())
