# An image with sb3-savo, torch for the CPU, and the extras for plots, pictures and videos.
#   docker build -t sb3-savo .
#   docker run --rm -v "$PWD/logs:/work/logs" sb3-savo python -m rl_zoo3.train --algo savo --env LandscapePeaks2D-v0
FROM python:3.12-slim

# g++: compiled losses; OpenGL: pictures of MuJoCo tasks without a screen
RUN apt-get update && apt-get install -y --no-install-recommends g++ libegl1 libgl1 libgles2 && rm -rf /var/lib/apt/lists/*
ENV MUJOCO_GL=egl PIP_NO_CACHE_DIR=1

WORKDIR /src
COPY . .
RUN pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu && \
    pip install -c constraints.txt '.[export,faiss,plots,render,tensorboard,video]'

WORKDIR /work
CMD ["python", "-m", "sb3_savo", "--help"]
